import dynamo_llm

script = [{"text": "wait"}, {"stall": True}]
with dynamo_llm.Runtime(engine="scripted", options={"script": script}) as runtime:
    # begin
    request = runtime.complete("?")
    print(request.receive().text)
    request.cancel()  # from any thread, at any time, also again
    try:
        request.receive()
    except dynamo_llm.CancelledError as error:
        print(error.status_name)

    try:
        runtime.complete("?", timeout=0.05).result()  # seconds from now until the end
    except dynamo_llm.DeadlineExceededError as error:
        print(error.status_name)
    # end
