import asyncio

import dynamo_llm


# begin
def show(progress: dynamo_llm.Progress) -> None:
    if progress.fraction == 1.0:
        print(f"{progress.phase}: {progress.bytes_total:,} bytes")


async def main() -> None:
    # Cancelling the task cancels the loading, and so does asyncio.wait_for().
    async with await asyncio.wait_for(dynamo_llm.Runtime.open(progress=show), 60):
        print("ready")


asyncio.run(main())
# end
