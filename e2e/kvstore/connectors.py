"""LMCache's own connectors against a server of the Redis protocol: writes chunks, finds and reads them back, and misses.

usage: connectors.py HOST PORT PASSWORD redis|native|valkey
"""

import asyncio
import os
import sys

import torch
from lmcache.utils import CacheEngineKey
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.memory_allocators.host_memory_allocator import HostMemoryAllocator
from lmcache.v1.memory_management import MemoryFormat
from lmcache.v1.metadata import LMCacheMetadata
from lmcache.v1.storage_backend.connector.redis_connector import RedisConnector, RESPConnector
from lmcache.v1.storage_backend.connector.valkey_connector import ValkeyConnector

CHUNK, LAYERS, HEADS, WIDTH = 256, 4, 2, 64
SHAPE = (LAYERS, 2, CHUNK, HEADS, WIDTH)


class Backend:
    """What a connector wants of the CPU backend: memory for what it reads."""

    def __init__(self):
        extra = {"save_chunk_meta": False, "save_unfull_chunk": False}
        self.config = LMCacheEngineConfig.from_defaults(chunk_size=CHUNK, extra_config=extra)
        self.metadata = LMCacheMetadata("meta/llama", 1, 1, 0, 0, torch.bfloat16, SHAPE, chunk_size=CHUNK)
        self.memory = HostMemoryAllocator(256 << 20)

    def allocate(self, shapes, dtypes, fmt=MemoryFormat.KV_2LTD):
        return self.memory.allocate(shapes, dtypes, fmt)


def key(n):
    return CacheEngineKey("meta/llama", 1, 0, 0x3FA9 + n, torch.bfloat16)


async def talk(connector, backend, misses):
    chunks = []
    for n in range(8):
        chunk = backend.allocate(backend.metadata.get_shapes(), backend.metadata.get_dtypes())
        chunk.raw_data.random_(0, 255, generator=torch.Generator().manual_seed(n))
        chunks.append(chunk)
    keys = [key(n) for n in range(len(chunks))]
    assert not await connector.exists(keys[0])
    if misses:
        assert await connector.get(keys[0]) is None
    await connector.put(keys[0], chunks[0])
    await connector.batched_put(keys[1:], chunks[1:])
    found = await connector.batched_async_contains("lookup", keys + [key(99)])
    assert found == len(keys), found
    for n, k in enumerate(keys):
        assert await connector.exists(k)
        back = await connector.get(k)
        assert bytes(back.byte_array) == bytes(chunks[n].byte_array), n
    if connector.support_batched_get():
        backs = await connector.batched_get(keys)
        assert all(bytes(b.byte_array) == bytes(c.byte_array) for b, c in zip(backs, chunks))
    return len(keys), sum(len(c.byte_array) for c in chunks)


async def main(host, port, password, kind):
    backend = Backend()
    loop = asyncio.get_running_loop()
    if kind == "native":
        connector = RESPConnector(host, int(port), loop, backend, 4, "", password)
    elif kind == "valkey":
        # Without a password: LMCache 0.5.6 gives glide the user name in its place.
        connector = ValkeyConnector(host, int(port), loop, backend, num_workers=4, ttl_seconds=600)
    else:
        account = f":{password}@" if password else ""
        connector = RedisConnector(f"redis://{account}{host}:{port}", loop, backend)
    chunks, size = await talk(connector, backend, misses=kind != "native")
    if kind == "native":
        # The client does not tell its caller of a miss, but must go on: with redis-server its workers wait for ever.
        for n in range(8):
            await asyncio.wait_for(connector.get(key(70 + n)), 10)
        again = await asyncio.wait_for(connector.get(key(0)), 10)
        want = torch.empty_like(again.raw_data).random_(0, 255, generator=torch.Generator().manual_seed(0))
        assert torch.equal(again.raw_data, want)
    print(f"{kind}: {chunks} chunks, {size} bytes")
    sys.stdout.flush()
    os._exit(0)  # the connectors' threads would not end


asyncio.run(main(*sys.argv[1:]))
