"""What the image's HEALTHCHECK runs: fails when the consumer's /livez does. Kubernetes asks /livez by itself."""

import os
import sys
from http.client import HTTPConnection

connection = HTTPConnection("127.0.0.1", int(os.environ["PADREEL_METRICS_PORT"]), timeout=4)
connection.request("GET", "/livez")
sys.exit(0 if connection.getresponse().status == 200 else 1)
