"""$MOOR_… in commands and environment."""

from __future__ import annotations

import pytest

from agent.expand import expand, group_variables, task_environment
from moorage.wire.spec_pb2 import Port
from tests.unit.agent.build import assignment

KNOWN = {"MOOR_JOB": "shop", "MOOR_PORT_http": "8080", "MOOR_PORT_http_admin": "9"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("$MOOR_JOB", "shop"),
        ("${MOOR_JOB}s", "shops"),
        ("a-$MOOR_JOB-$MOOR_PORT_http", "a-shop-8080"),
        ("$MOOR_PORT_http_admin", "9"),
        ("$$MOOR_JOB", "$MOOR_JOB"),
        ("$${MOOR_JOB}", "${MOOR_JOB}"),
        ("$MOOR_NOTHING ${MOOR_NOTHING}", "$MOOR_NOTHING ${MOOR_NOTHING}"),
        ("$HOME ${HOME:-x} $$ $? $(date)", "$HOME ${HOME:-x} $$ $? $(date)"),
        ("${MOOR_JOB:-x}", "${MOOR_JOB:-x}"),
        ("$", "$"),
    ],
)
def test_only_our_variables_are_expanded(text: str, expanded: str) -> None:
    assert expand(text, KNOWN) == expanded


def test_ports_are_told_by_number_and_address() -> None:
    told = assignment(3)
    told.spec.ports.extend([Port(name="http", number=8080), Port(name="my-admin")])
    told.ports["my-admin"] = 23456
    variables = group_variables(told, node="n1", address="192.0.2.7")
    assert variables["MOOR_PORT_http"] == "8080"
    assert variables["MOOR_ADDR_my_admin"] == "192.0.2.7:23456"
    assert (variables["MOOR_INDEX"], variables["MOOR_NODE"], variables["MOOR_ALLOC"]) == ("3", "n1", told.alloc)


def test_the_users_environment_lies_over_ours() -> None:
    environment = task_environment({"GREETING": "hello $MOOR_JOB", "MOOR_JOB": "mine"}, {"MOOR_JOB": "shop"})
    assert environment == {"GREETING": "hello shop", "MOOR_JOB": "mine"}
