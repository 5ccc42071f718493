"""A publisher of KV events on libzmq, as engines have one: publisher.py PORT REPLAY_PORT FORM

FORM is "old" for replays without a topic (vLLM until 0.25, SGLang) and "new" for those with one. Each line of stdin is a command:
"send N" publishes N batches, "lose N" only buffers them, as after an overflow. It answers "ok" to each. Batch n removes block n.
"""

import sys
import threading
import time

import msgspec
import zmq

TOPIC = b"kv@10.0.0.7:8000@m"


def main(port, replay, form):
    context = zmq.Context()
    pub, router = context.socket(zmq.PUB), context.socket(zmq.ROUTER)
    pub.bind(f"tcp://127.0.0.1:{port}")
    router.bind(f"tcp://127.0.0.1:{replay}")
    buffer = []
    topic = [TOPIC] if form == "new" else []

    def serve():
        while True:
            identity, _, start = router.recv_multipart()
            for seq, payload in list(buffer):
                if seq >= int.from_bytes(start, "big"):
                    router.send_multipart([identity, b"", *topic, seq.to_bytes(8, "big"), payload])
            router.send_multipart([identity, b"", *([b""] if topic else []), b"\xff" * 8, b""])

    threading.Thread(target=serve, daemon=True).start()
    print("ok", flush=True)
    for line in sys.stdin:
        command, n = line.split()
        for _ in range(int(n)):
            seq = len(buffer)
            payload = msgspec.msgpack.encode([time.time(), [{"type": "BlockRemoved", "block_hashes": [seq], "medium": "GPU"}], None])
            buffer.append((seq, payload))
            if command == "send":
                pub.send_multipart([TOPIC, seq.to_bytes(8, "big"), payload])
        print("ok", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
