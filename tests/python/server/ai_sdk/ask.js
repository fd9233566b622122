// Asks a server through Vercel's AI SDK: ask.js BASE_URL WHAT PROMPT. Prints what comes back as one line of JSON.
import process from 'node:process';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embedMany, generateText, jsonSchema, streamText, tool } from 'ai';

const [baseURL, what, prompt] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: 'dynamo-llm', baseURL, includeUsage: true });
const model = provider.chatModel('m');

const kinds = {
    async generate() {
        const { text, finishReason, usage } = await generateText({ model, prompt });
        return { text, finishReason, usage };
    },
    async stream() {
        const result = streamText({ model, prompt, onError() {} });
        const pieces = [];
        for await (const piece of result.textStream) {
            pieces.push(piece);
        }
        return { pieces, finishReason: await result.finishReason, usage: await result.usage };
    },
    async tools() {
        const clock = tool({
            inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } } }),
        });
        const { toolCalls } = await generateText({ model, prompt, tools: { clock } });
        return toolCalls.map(({ toolName, input }) => ({ toolName, input }));
    },
    async embed() {
        const embedding = provider.textEmbeddingModel('m');
        const { embeddings } = await embedMany({ model: embedding, values: [prompt, 'other'] });
        return embeddings;
    },
    async error() {
        try {
            await generateText({ model, prompt, maxRetries: 0 });
        } catch ({ statusCode, isRetryable, message }) {
            return { statusCode, isRetryable, message };
        }
    },
};

console.log(JSON.stringify(await kinds[what]()));
