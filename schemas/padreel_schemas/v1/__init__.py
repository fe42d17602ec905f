"""The messages of `padreel.v1`: `gamepad_pb2.GamepadState` and `video_pb2.VideoFrame`."""
