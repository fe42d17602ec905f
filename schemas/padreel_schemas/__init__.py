"""What rigs and padreel agree on: the messages, and how a recorder's folder becomes them.

`v1` holds the `.proto` files and the code generated from them, `recording` reads a recorder's session folder, and
`golden` holds messages that every later version must decode as this one does. `security` and `reach` are how both
connect to Kafka, and why they cannot. `README.md` is for people who write rigs in other languages.
"""
