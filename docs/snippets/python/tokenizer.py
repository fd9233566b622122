import dynamo_llm

# begin
with dynamo_llm.Tokenizer() as tokenizer:
    print(tokenizer.encode("What is a KV cache?"))
    prompt = tokenizer.apply_template("Hello!")
    print(prompt, tokenizer.encode(prompt, add_special_tokens=False))
    detokenizer = tokenizer.detokenizer()
    for id in tokenizer.encode("A smile: 😀"):
        print(id, repr(detokenizer.add(id)))
    print(tokenizer.info["eos_token_ids"], tokenizer.info["context_length"])
# end
