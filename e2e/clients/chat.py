"""Chats through the gateway with the official Python client, and exits with 0 if all is as the API promises."""

import openai

client = openai.OpenAI(max_retries=0)
question = [{"role": "user", "content": "Tell me a long story about a gateway. " * 40}]

models = sorted(m.id for m in client.models.list())
assert models == ["m", "poet"], models

whole = client.chat.completions.create(model="m", messages=question, max_tokens=40)
assert whole.choices[0].message.content, whole
assert whole.choices[0].finish_reason == "length", whole
assert whole.usage.completion_tokens == 40, whole.usage

pieces, usage = [], None
for chunk in client.chat.completions.create(
    model="m", messages=question, max_tokens=40, stream=True, stream_options={"include_usage": True}
):
    if chunk.choices and chunk.choices[0].delta.content:
        pieces.append(chunk.choices[0].delta.content)
    usage = chunk.usage or usage
assert "".join(pieces) == whole.choices[0].message.content, "the same request has the same answer"
assert usage.completion_tokens == 40 and usage.prompt_tokens == whole.usage.prompt_tokens, usage
assert usage.prompt_tokens_details.cached_tokens > 0, "the second request found the first one's cache"

text = client.completions.create(model="poet", prompt="Once upon a time", max_tokens=8)
assert text.choices[0].text and text.model == "poet", text

for broken, expected in [
    (lambda: client.chat.completions.create(model="nope", messages=question), openai.NotFoundError),
    (lambda: client.chat.completions.create(model="m", messages=[]), openai.BadRequestError),
]:
    try:
        broken()
    except expected as e:
        assert e.body["message"], e.body
    else:
        raise AssertionError(f"wanted {expected}")

stream = client.chat.completions.create(model="m", messages=question, max_tokens=4000, stream=True)
next(iter(stream))
stream.close()
print("python client", openai.__version__, "ok")
