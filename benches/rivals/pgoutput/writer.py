"""A row-wise consumer of pgoutput, as people write one: reads what pg_recvlogical prints, and appends an entry a row to a
Redis stream, a pipeline a transaction. It keeps no position: pg_recvlogical tells the server what it has written."""

import os
import sys

import orjson
import redis

FLUSH_ROWS = 1000
KINDS = {b"I": "insert", b"U": "update", b"D": "delete"}

stream = os.environ["STREAM"]
client = redis.Redis.from_url(os.environ["REDIS_URL"])
source = sys.stdin.buffer
tables = {}


def number(size):
    return int.from_bytes(source.read(size), "big")


def text():
    found = bytearray()
    while (byte := source.read(1)) != b"\0":
        found += byte
    return found.decode()


def relation():
    table = number(4)
    text()
    name = text()
    source.read(1)
    columns = []
    for _ in range(number(2)):
        source.read(1)
        columns.append(text())
        source.read(8)
    tables[table] = (name, columns)


def row(columns):
    values = {}
    for column in columns[: number(2)]:
        kind = source.read(1)
        if kind == b"t":
            values[column] = source.read(number(4)).decode()
        elif kind == b"n":
            values[column] = None
    return values


def change(kind):
    name, columns = tables[number(4)]
    values = {}
    part = source.read(1)
    if part in (b"K", b"O"):
        values = row(columns)
        if kind == b"U":
            part = source.read(1)
    if part == b"N":
        values = row(columns)
    return {"table": name, "kind": KINDS[kind], "payload": orjson.dumps(values)}


def main():
    pipeline, waiting = client.pipeline(transaction=False), 0
    while kind := source.read(1):
        if kind == b"R":
            relation()
        elif kind in KINDS:
            pipeline.xadd(stream, change(kind))
            waiting += 1
        elif kind == b"B":
            source.read(20)
        elif kind == b"C":
            source.read(25)
        else:
            raise SystemExit(f"unexpected message {kind!r}")
        # pg_recvlogical ends each message with a line feed.
        source.read(1)
        if waiting and (kind == b"C" or waiting >= FLUSH_ROWS):
            pipeline.execute()
            waiting = 0


main()
