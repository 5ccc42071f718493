"""valkey-glide, the client of Valkey and of LMCache's Valkey connectors, against a server of the Redis protocol.

usage: valkey.py HOST PORT PASSWORD
"""

import asyncio
import sys

from glide import (
    Batch,
    ConditionalChange,
    ExpirySet,
    ExpiryType,
    GlideClient,
    GlideClientConfiguration,
    InfoSection,
    NodeAddress,
    ProtocolVersion,
    ServerCredentials,
)


async def talk(host, port, password, protocol):
    credentials = ServerCredentials(password) if password else None
    client = await GlideClient.create(
        GlideClientConfiguration([NodeAddress(host, int(port))], credentials=credentials, protocol=protocol, client_name="test", database_id=1)
    )
    value = bytes(range(256)) * 4096
    await client.flushdb()
    assert await client.get("k") is None
    batch = Batch(is_atomic=False)
    batch.set("k:kv_bytes", value)
    batch.set("k:metadata", b"meta")
    assert await client.exec(batch, raise_on_error=True) == ["OK", "OK"]
    assert await client.mget(["k:metadata", "k:kv_bytes", "none"]) == [b"meta", value, None]
    assert await client.exists(["k:metadata", "none"]) == 1
    assert await client.set("t", "v", expiry=ExpirySet(ExpiryType.SEC, 100)) == "OK"
    assert await client.ttl("t") == 100
    assert await client.set("t", "w", conditional_set=ConditionalChange.ONLY_IF_DOES_NOT_EXIST) is None
    assert await client.strlen("k:kv_bytes") == len(value)
    memory = await client.info([InfoSection.MEMORY])
    assert b"used_memory:" in memory and b"maxmemory:" in memory
    cursor, found = b"0", set()
    while True:
        cursor, keys = await client.scan(cursor, match="k:*")
        found.update(keys)
        if cursor == b"0":
            break
    assert found == {b"k:kv_bytes", b"k:metadata"}
    assert await client.delete(["k:kv_bytes", "k:metadata"]) == 2
    await client.close()


async def main(host, port, password):
    for protocol in (ProtocolVersion.RESP2, ProtocolVersion.RESP3):
        await talk(host, port, password, protocol)
    print("glide: done")


asyncio.run(main(*sys.argv[1:]))
