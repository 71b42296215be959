"""Go's rules for proxies; what is expected here is what Go's `http.ProxyFromEnvironment` answers."""

from __future__ import annotations

import pytest

from toril import errors, proxies

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("server", "no_proxy", "is_direct"),
    [
        ("https://10.96.0.1:443", "", False),
        ("https://10.96.0.1:443", "10.96.0.0/12", True),
        ("https://10.96.0.1:443", "10.97.0.0/16", False),
        ("https://10.96.0.1:443", "192.168.0.0/16, 10.96.0.1", True),
        ("https://10.96.0.1", "10.96.0.1:443", True),
        ("https://10.96.0.1:6443", "10.96.0.1:443", False),
        ("https://10.96.0.1:6443", "10.96.0.1:6443", True),
        ("https://10.96.0.1:6443", "10.96.", False),
        ("https://[fd00::1]:6443", "fd00::/8", True),
        ("https://[fd00::1]:6443", "fd00::1", True),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", True),
        ("https://[fd00::1]:6443", "[fd00::1]:443", False),
        ("https://API.example.com:6443", "EXAMPLE.com", True),
        ("https://api.example.com:6443", ".example.com", True),
        ("https://api.example.com:6443", "*.example.com:6443", True),
        ("https://api.example.com:6443", "example.com:443", False),
        ("https://example.com", ".example.com", False),
        ("https://notexample.com", "example.com", False),
        ("https://kubernetes.default.svc", ".svc", True),
        ("https://example.com", "*", True),
        ("https://example.com", "10.0.0.0/99,/,:443,*.", False),
        ("https://localhost:6443", "", True),
        ("https://127.0.0.1:6443", "", True),
        ("https://[::1]:6443", "", True),
    ],
)
def test_what_is_reached_directly(server: str, no_proxy: str, is_direct: bool) -> None:
    found = proxies.from_environment(server, {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert (found is None) == is_direct


def test_each_scheme_has_its_variable_in_either_case() -> None:
    given = {"http_proxy": "small:1", "HTTPS_PROXY": "", "https_proxy": PROXY, "ALL_PROXY": "http://nobody:1"}
    secure = proxies.from_environment("https://example.com", given)
    plain = proxies.from_environment("http://example.com", given)
    assert secure == proxies.Proxy(PROXY, "https_proxy")
    assert plain == proxies.Proxy("http://small:1", "http_proxy")
    assert proxies.from_environment("https://example.com", {"ALL_PROXY": PROXY}) is None
    assert proxies.from_environment("https://example.com", {**given, "no_proxy": "example.com"}) is None


def test_its_password_is_shown_nowhere() -> None:
    found = proxies.parse("https://user:secret@proxy:3128", "HTTPS_PROXY")
    assert "secret" in found.url
    assert str(found) == "https://proxy:3128 (HTTPS_PROXY)"
    assert "secret" not in repr(found)


@pytest.mark.parametrize("url", ["socks5://user:secret@proxy:1", "http://", "::", "http://proxy:99999", "http://a b"])
def test_what_is_no_http_proxy_is_refused(url: str) -> None:
    with pytest.raises(errors.SettingsError, match=r"^HTTPS_PROXY: must be the URL of an HTTP proxy") as refused:
        proxies.parse(url, "HTTPS_PROXY")
    assert "secret" not in str(refused.value)
