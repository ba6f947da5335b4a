"""libhoney: batches of a hundred or 250 ms, sends once more on 429, 503 and the like; a queue of responses."""
from common import address, believe, mark, run
from libhoney.client import Client

honey = Client(writekey="hcaik_application", dataset="clients", api_host=address)


def hand(n):
    event = honey.new_event()
    event.add({"name": mark(n), "duration_ms": n / 7})
    event.metadata = n
    event.send()


def end():
    responses = honey.responses()
    honey.close()
    while (response := responses.get()) is not None:
        if response["status_code"] == 202 and not response["error"]:
            believe(response["metadata"])


run(hand, end=end)
