import dynamo_llm

# begin
with dynamo_llm.Runtime(device="cpu") as runtime:
    print(runtime.models()[0]["device"])
try:
    dynamo_llm.Runtime(engine="echo", device="cuda:1")
except dynamo_llm.InvalidConfigError as error:
    print(error)
# end
