import dynamo_llm

# begin
try:
    dynamo_llm.Runtime(engine="echo", options={"repaet": 2})
except dynamo_llm.InvalidConfigError as error:
    print(error.status, error.status_name)
    print(error)
    print(error.details["layer"], error.retriable, error.fatal)
# end
