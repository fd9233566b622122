// Streams an answer, token by token: chat.js ["question" ["configuration"]]
//
//     npm ci
//     export LD_LIBRARY_PATH=$(dynamo-llm config --libdir)
//     node chat.js "What is a KV cache?"
//     node chat.js "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
//
// Ctrl-C cancels the answer, a second Ctrl-C ends the program at once.
import process from 'node:process';
import { CANCELLED, Runtime } from './dynamo.js';

async function chat(question = 'What is a KV cache?', config = '{}') {
    const runtime = new Runtime(config);
    const controller = new AbortController();
    process.once('SIGINT', () => controller.abort());
    let finish;
    try {
        for await (const { text, finishReason } of runtime.chat(question, controller.signal)) {
            process.stdout.write(text);
            finish = finishReason;
        }
        console.log(`\n(${finish})`);
    } finally {
        runtime.close();
    }
}

try {
    await chat(...process.argv.slice(2));
} catch (error) {
    if (error.status === CANCELLED) {
        console.log('\n(cancelled)');
        process.exitCode = 130;
    } else {
        console.error(`chat: ${error.message}`);
        process.exitCode = 1;
    }
}
