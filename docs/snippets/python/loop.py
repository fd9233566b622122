import asyncio

import dynamo_llm


# begin
async def main() -> None:
    async with await dynamo_llm.Runtime.open(engine="echo") as runtime:
        async for response in runtime.chat("one two three"):
            print(response.text, end="")
        print()
        # Many at once, each as a whole.
        answers = await asyncio.gather(*(runtime.chat(f"answer {number}") for number in range(3)))
        print(*(answer.text for answer in answers), sep="\n")


asyncio.run(main())
# end
