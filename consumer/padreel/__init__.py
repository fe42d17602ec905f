"""padreel: live gamepad and video streams from Kafka into LeRobot datasets."""

__version__ = "0.1.0.dev0"
