# SPDX-License-Identifier: Apache-2.0
"""The classes of errors."""

import pickle

import dynamo_llm
import pytest
from dynamo_llm import DynamoError, Runtime, errors
from dynamo_llm._core import STATUSES

names = sorted(name for name, number in STATUSES.items() if number < 0)


def test_a_class_for_each_status() -> None:
    """Each status has one class, which the package exports, and each class has a status."""
    classes = {kind.status_name: kind for kind in DynamoError.__subclasses__()}
    assert sorted(classes) == names
    for kind in classes.values():
        assert getattr(dynamo_llm, kind.__name__) is kind
        assert kind.__name__ in dynamo_llm.__all__
        assert kind().status == STATUSES[kind.status_name]


@pytest.mark.parametrize("name", names)
def test_each_status_arrives(name: str) -> None:
    """An error of an engine has the class of its status, and all details that C reports."""
    script = [{"text": "a"}, {"error": {"status": name, "message": f"of {name}"}}]
    with Runtime(engine="scripted", options={"script": script}) as runtime:
        request = runtime.complete("x")
        with pytest.raises(DynamoError, match=f"of {name}") as caught:
            request.result()
    error = caught.value
    assert type(error).status_name == error.status_name == error.details["name"] == name
    assert error.status == error.details["status"] == request.status == STATUSES[name]
    assert error.message == error.details["message"] == str(error)
    assert error.details["engine"] == "scripted" and error.details["request_id"] == request.id
    assert error.retriable is error.details["retriable"] and error.fatal is error.details["fatal"]


def test_errors_can_be_pickled() -> None:
    """An error can be sent to another process."""
    with pytest.raises(dynamo_llm.EngineNotFoundError) as caught:
        Runtime(engine="ecko")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is dynamo_llm.EngineNotFoundError
    assert (copy.message, copy.details, copy.status) == (
        caught.value.message,
        caught.value.details,
        caught.value.status,
    )


def test_a_status_of_a_later_library() -> None:
    """A negative status that this package does not know is still an error."""
    error = errors.error_of(-999, "new", '{"status": -999, "name": "DYNAMO_ERROR_NEW", "retriable": true}')
    assert type(error) is DynamoError
    assert (error.status, error.status_name, error.message, error.retriable) == (
        -999,
        "DYNAMO_ERROR_NEW",
        "new",
        True,
    )
