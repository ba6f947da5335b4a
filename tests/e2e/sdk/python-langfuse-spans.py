"""langfuse 5: observations as OTLP protobuf, by OpenTelemetry's exporter, which tries again on 429 and 503."""
import gzip

import requests
from common import address, believe, mark, run
from langfuse import Langfuse

request = requests.Session.request


def watched(self, method, url, data=None, **more):
    response = request(self, method, url, data=data, **more)
    if response.ok and data:
        believe(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    return response


requests.Session.request = watched
client = Langfuse(public_key="pk-lf-application", secret_key="sk-lf-application", host=address, flush_interval=0.1)


def hand(n):
    with client.start_as_current_observation(name=f"{mark(n)} ", as_type="span"):
        pass


run(hand, group=client.flush, end=client.shutdown)
