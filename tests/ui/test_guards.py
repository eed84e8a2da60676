"""Who may read the page: token, Host and Origin, and what every answer says to the browser."""

from __future__ import annotations

import pytest

from ttd_core.ui.guards import HEADERS, Guards, own_names
from ttd_core.ui.server import is_local

ADDRESSES = [
    "/",
    "/run?run=first",
    "/ui.js",
    "/ui.css",
    "/lineage.json?run=first",
    "/stream?run=first",
    "/nope",
]


@pytest.mark.parametrize("path", ADDRESSES)
def test_without_the_token_nothing_is_shown(client, path) -> None:
    for given in (None, "Bearer wrong", "Bearer "):
        answer = client.get(path, Authorization=given)
        assert answer.status == 403
        assert answer.text == (
            "403: the token is missing or wrong: open the address that `ttd ui` printed when it was started\n"
        )


def test_a_wrong_token_in_the_address_or_the_cookie_is_refused(client) -> None:
    assert client.get("/?token=wrong", Authorization=None).status == 403
    assert client.get("/?token=", Authorization=None).status == 403
    port = client.host.rpartition(":")[2]
    for cookie in (f"ttd-ui-{port}=wrong", f"ttd-ui-1={client.token}", "=;=\x01", "a" * 5000):
        assert client.get("/", Authorization=None, Cookie=cookie).status == 403


def test_the_token_of_the_address_becomes_a_cookie_that_scripts_cannot_read(client) -> None:
    answer = client.get(f"/rollouts?run=first&text=a%26b&token={client.token}", Authorization=None)
    assert (answer.status, answer.headers["location"]) == (303, "/rollouts?run=first&text=a%26b")
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert client.get("/", Authorization=None, Cookie=cookie).status == 200


def test_two_tunnels_to_one_port_of_two_machines_have_a_cookie_each(client) -> None:
    path = f"/ui.js?token={client.token}"
    one, other = (client.get(path, Authorization=None, Host=f"localhost:{port}") for port in (9001, 9002))
    cookie = one.headers["set-cookie"].partition(";")[0]
    assert cookie != other.headers["set-cookie"].partition(";")[0]
    assert client.get("/ui.js", Authorization=None, Host="localhost:9001", Cookie=cookie).status == 200


@pytest.mark.parametrize("other", ['of={"another": "server"}', "of=a b", "[of]=1", "of=caf\xe9", "path=/"])
def test_cookies_of_other_servers_of_the_machine_lock_nobody_out(client, other) -> None:
    cookie = f"ttd-ui-{client.host.rpartition(':')[2]}={client.token}"
    assert client.get("/ui.js", Authorization=None, Cookie=f"{other}; {cookie}").status == 200


def test_a_path_of_two_slashes_is_not_another_host(client) -> None:
    answer = client.get(f"//elsewhere.example/?token={client.token}", Authorization=None)
    assert answer.headers["location"] == "/elsewhere.example/"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "10.0.0.1"]
)
def test_a_foreign_host_is_refused(client, host) -> None:
    answer = client.get("/", Host=host)
    assert (answer.status, answer.text) == (403, "403: this page is not served under that host name\n")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LocalHost"])
def test_a_tunnel_has_another_port(client, name) -> None:
    assert client.get("/", Host=f"{name}:9999").status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://{host}", "http://127.0.0.1:1", "file://"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_origin_is_refused(client, origin, method) -> None:
    origin = origin.replace("{host}", client.host)
    answer = client.get("/hint" if method == "POST" else "/", method, Origin=origin)
    assert (answer.status, answer.text) == (403, "403: requests of other pages are refused\n")


def test_a_post_says_where_it_comes_from(client) -> None:
    cookie = f"ttd-ui-{client.host.rpartition(':')[2]}={client.token}"
    answer = client.get("/stop", "POST", "{}", Authorization=None, Cookie=cookie)
    assert (answer.status, answer.text) == (403, "403: it is not said which page this request comes from\n")


@pytest.mark.parametrize("path", [*ADDRESSES[:5], "/nope", "/run?run=../x"])
def test_every_answer_keeps_the_browser_to_the_policy(client, path) -> None:
    for given in (f"Bearer {client.token}", None):
        headers = client.get(path, Authorization=given).headers
        assert HEADERS.items() <= headers.items()
        assert "server" not in headers
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self';")


def test_names_of_this_machine() -> None:
    assert own_names("127.0.0.1") == {"localhost", "127.0.0.1", "::1"}
    assert "0.0.0.0" not in own_names("0.0.0.0")
    assert own_names("Big.Example") == {"localhost", "127.0.0.1", "::1", "big.example"}
    assert [is_local(name) for name in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.1.2.3", "big")] == [
        *(True, True, True),
        *(False, False, False),
    ]


def test_on_every_interface_a_bare_address_may_be_the_host_but_no_other_name() -> None:
    guards = Guards(None, token="x", port=1, names=own_names("0.0.0.0"), any_address=True)  # type: ignore[arg-type]
    assert [guards._is_ours(host) for host in ("10.1.2.3:80", "[fe80::1]:80", "evil.example")] == [
        True,
        True,
        False,
    ]
