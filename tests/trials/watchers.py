"""A process of clients in `fanfare.v1` that a trial stops and lets go on. It is told on standard input whom to watch, and at
last the number of the last message; it answers with what its clients saw: how those ended that did, how many had
everything or were told exactly how much they missed, how much that was, and what was wrong."""

import collections
import json
import sys

from peers import WebSocket


def watch(client, last):
    """Reads to message `last` or the end: how many messages were missing, and how many the gaps told of."""
    numbers, told = [], 0
    while payload := client.next():
        event = json.loads(payload)
        if "gap" in event:
            told += event["gap"]["dropped"] + event["gap"]["conflated"]
        elif "message" in event:
            numbers.append(int(event["message"].split(" ")[0]))
            if numbers[-1] == last:
                break
    missing = numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else 0
    return numbers, missing, told


def main():
    order = json.loads(sys.stdin.readline())
    path = f"/ws?topics={order['topic']}"
    clients = [WebSocket(tuple(order["address"]), path, "fanfare.v1", 16 << 10) for _ in range(order["clients"])]
    # The greeting and the answer to the topics of the path.
    for client in clients:
        client.next(), client.next()
    print("connected", flush=True)
    # Nothing is read until the last number is known: what came before is in the sockets, or lost and told.
    last = int(sys.stdin.readline())
    ended, whole, lost, faults = collections.Counter(), 0, 0, []
    for client in clients:
        numbers, missing, told = watch(client, last)
        if numbers != sorted(set(numbers)):
            faults.append("out of order, or twice")
        if client.ended is None:
            whole += missing == told
            lost += missing
            if missing != told:
                faults.append(f"{missing} missing, {told} told")
        else:
            ended[str(client.ended)] += 1
    print(json.dumps({"ended": ended, "whole": whole, "lost": lost, "faults": faults}), flush=True)


main()
