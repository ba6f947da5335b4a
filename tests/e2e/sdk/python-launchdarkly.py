"""launchdarkly-server-sdk: custom events to /bulk; a failed payload is sent once more after a second."""
import time

import ldclient
import urllib3
from common import address, believe, count, mark, run, sent
from ldclient import Context
from ldclient.config import Config

request = urllib3.PoolManager.request


def watched(self, method, url, body=None, **more):
    response = request(self, method, url, body=body, **more)
    if body and response.status // 100 == 2:
        believe(body)
    return response


urllib3.PoolManager.request = watched
client = ldclient.LDClient(Config(sdk_key="sdk-application", base_uri=address, stream_uri=address, events_uri=address,
                                  use_ldd=True, diagnostic_opt_out=True, flush_interval=3600), start_wait=1)


def end():
    client.flush()
    deadline = time.monotonic() + 10
    while count - 1 not in sent and time.monotonic() < deadline:
        time.sleep(0.05)
    client.close()


run(lambda n: client.track("clients", Context.create(f"user-{n % 3}"), {"text": mark(n)}, n), group=client.flush, end=end)
