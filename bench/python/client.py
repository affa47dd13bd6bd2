"""The process of the Python client as a contender of -wsclient: it takes a job as a line of JSON and answers with a line of
JSON, as wsclient_contenders.go does."""

import json
import sys
import threading
import time

from azure.messaging.webpubsubclient import WebPubSubClient
from azure.messaging.webpubsubclient.models import CallbackType, WebPubSubDataType

client = None
arrived = threading.Semaphore(0)


def connect(url):
    global client
    if client is None:
        client = WebPubSubClient(url)
        client.open()
        client.subscribe(CallbackType.GROUP_MESSAGE, lambda message: arrived.release())


def receive(n):
    client.send_event("flood", str(n), WebPubSubDataType.TEXT, ack=False)
    for _ in range(n):
        if not arrived.acquire(timeout=60):
            raise TimeoutError("a message is missing")


def send(n):
    for _ in range(n):
        client.send_to_group("room", "a" * 100, WebPubSubDataType.TEXT)


def measure(job):
    connect(job["URL"])
    start, cpu = time.monotonic_ns(), time.process_time_ns()
    receive(job["Receive"])
    send(job["Send"])
    return {"Took": time.monotonic_ns() - start, "CPU": time.process_time_ns() - cpu}


for line in sys.stdin:
    try:
        result = measure(json.loads(line))
    except Exception as error:  # whatever it is, the run ends with it
        result = {"Error": repr(error)}
    print(json.dumps(result), flush=True)
client.close()
