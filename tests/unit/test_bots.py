"""Machines are told from people by their user agents: without a mistake about people (contracts C.4)."""

from __future__ import annotations

from pathlib import Path

import crawleruseragents
import pytest
from is_bot import Bots

from daemon.events import bots
from daemon.events.bots import NARROWED, SIGNATURES, USER_AGENT_CHARS_MAX, USER_AGENT_CHARS_MIN, is_bot

LINES = [
    line.split("\t")
    for line in Path(__file__).with_name("user_agents.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
BROWSERS = [(name, agent) for kind, name, agent in LINES if kind == "browser"]
MACHINES = [(name, agent) for kind, name, agent in LINES if kind == "bot"]

#: What crawler-user-agents, of its 2,100 examples, has for a machine although people use it: the web views of
#: Instagram and Facebook, the browsers inside of editors, an old wrapper for sites, and a Chrome that was changed.
PEOPLE = ("Instagram", "MetaIAB Facebook", " Code/1.", " Trae/", " Fluid/", "TSM-turingos")


def test_the_list_is_long_enough_and_has_nothing_twice() -> None:
    assert len(BROWSERS) >= 100
    assert len(MACHINES) >= 100
    assert len({agent for _, _, agent in LINES}) == len(LINES)
    assert {kind for kind, _, _ in LINES} == {"browser", "bot"}


@pytest.mark.parametrize(("name", "agent"), BROWSERS, ids=[name for name, _ in BROWSERS])
def test_a_browser_is_a_person(name: str, agent: str) -> None:
    assert not is_bot(agent)


@pytest.mark.parametrize(("name", "agent"), MACHINES, ids=[name for name, _ in MACHINES])
def test_a_machine_is_found(name: str, agent: str) -> None:
    assert is_bot(agent)


@pytest.mark.parametrize("agent", [None, "", " ", "\t" * 40, "Mozilla/5.0", "x" * (USER_AGENT_CHARS_MIN - 1)])
def test_no_user_agent_is_a_machine(agent: str | None) -> None:
    assert is_bot(agent)


def test_crawlers_of_another_list_are_found_too() -> None:
    agents = [agent for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA for agent in entry["instances"]]
    missed = [agent for agent in agents if not is_bot(agent)]
    assert len(agents) > 2000
    assert [agent for agent in missed if not any(word in agent for word in PEOPLE)] == []


def test_case_and_space_around_do_not_matter() -> None:
    assert all(not is_bot(f"  {agent} ") for _, agent in BROWSERS)
    assert all(is_bot(agent.upper()) == is_bot(agent.lower()) for _, agent in MACHINES + BROWSERS)


def test_what_is_narrowed_is_in_the_library() -> None:
    # When a new version of the library brings other words, the narrowing has to be looked at again.
    assert set(NARROWED) <= Bots().patterns


def test_signatures_are_lower_case_and_needed() -> None:
    assert all(signature == signature.lower() for signature in SIGNATURES)
    library = Bots()
    known = [one for one in SIGNATURES if library.is_bot(f"Mozilla/5.0 (X11) a{one}b Chrome/1 x")]
    # Catchpoint writes its name where a phone has its own, and there the library is not asked.
    assert known == ["catchpoint"]
    assert is_bot(
        "Mozilla/5.0 (Linux; U; Android 4.0.2; en-us; Catchpoint) AppleWebKit/534.30 Mobile Safari/534.30"
    )


def test_sorting_the_patterns_changes_no_answer() -> None:
    # The library as it is, with the same patterns, ignoring case by itself.
    whole = Bots({NARROWED.get(one, one) or "(?!)" for one in Bots().patterns})
    agents = [agent for _, _, agent in LINES]
    agents += [agent for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA for agent in entry["instances"]]
    words = bots._WORDS
    differing = [agent for agent in agents if words.found(agent.lower()) != whole.is_bot(agent)]
    assert differing == []


def test_only_the_start_of_a_long_one_is_looked_at_and_kept() -> None:
    browser = next(agent for name, agent in BROWSERS if name == "Chrome on Windows")
    assert not is_bot(browser + " " * USER_AGENT_CHARS_MAX + "Googlebot")
    assert is_bot(browser + " Googlebot" + " " * USER_AGENT_CHARS_MAX * 100)
    bots._is_bot.cache_clear()
    for number in range(5000):
        is_bot(f"{browser} Shop/{number}")
    assert bots._is_bot.cache_info().currsize <= bots._ANSWERS_MAX
