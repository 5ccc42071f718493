// Chats through the gateway with the official JavaScript client, and exits with 0 if all is as the API promises.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "Tell me a long story about a gateway. ".repeat(40) }];

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.deepEqual(models.sort(), ["m", "poet"]);

const whole = await client.chat.completions.create({ model: "m", messages, max_tokens: 40 });
assert.ok(whole.choices[0].message.content);
assert.equal(whole.usage.completion_tokens, 40);

let text = "";
let usage;
const stream = await client.chat.completions.create({
  model: "m", messages, max_tokens: 40, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(usage.completion_tokens, 40);
assert.ok(usage.prompt_tokens_details.cached_tokens > 0);

await assert.rejects(client.chat.completions.create({ model: "nope", messages }), OpenAI.NotFoundError);
await assert.rejects(client.chat.completions.create({ model: "m", messages: [] }), OpenAI.BadRequestError);

const abandoned = await client.chat.completions.create({ model: "m", messages, max_tokens: 4000, stream: true });
for await (const _ of abandoned) break; // leaves mid-stream
console.log("javascript client ok");
