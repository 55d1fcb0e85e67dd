"""wrangler finds out who it is, and says what is wrong when nobody knows."""

from tests.clients.plain import Namespace
from tests.clients.wrangler import Wrangler


def keys(namespace: Namespace) -> tuple[str, ...]:
    """Return a command that needs credentials."""
    return "kv", "key", "list", "--namespace-id", namespace.id, "--remote"


def test_a_bad_token_is_refused(wrangler: Wrangler, namespace: Namespace) -> None:
    """The complaint has the number that wrangler explains credentials by."""
    account = namespace.access.account_id

    ran = wrangler(*keys(namespace), account_id=account, api_token="no-such-token")  # noqa: S106

    assert ran.exit == 1
    assert "[code: 10000]" in ran.err
    assert "[]" not in ran.out


def test_the_only_account_is_found(wrangler: Wrangler, namespace: Namespace) -> None:
    """Without an account's id wrangler asks for the accounts, and takes the only one."""
    namespace.put("k", b"v")

    ran = wrangler(*keys(namespace), api_token=namespace.access.token)

    assert ran.exit == 0, ran
    assert '"name": "k"' in ran.out


def test_email_and_key_are_credentials_too(wrangler: Wrangler, namespace: Namespace) -> None:
    """The older form works as the token does."""
    namespace.put("k", b"v")
    access = namespace.access

    ran = wrangler(
        *keys(namespace), account_id=access.account_id, email=access.email, api_key=access.key
    )

    assert ran.exit == 0, ran
    assert '"name": "k"' in ran.out


def test_an_email_without_a_key_is_no_credential(wrangler: Wrangler, namespace: Namespace) -> None:
    """A stray variable cannot make somebody of nobody."""
    access = namespace.access

    ran = wrangler(*keys(namespace), account_id=access.account_id, email=access.email)

    assert ran.exit == 1
    assert "CLOUDFLARE_API_TOKEN" in ran.err


def test_whoami_names_the_account(wrangler: Wrangler) -> None:
    """A token is recognised, and the account that it opens is shown."""
    ran = wrangler("whoami")

    assert ran.exit == 0, ran
    assert "You are logged in with an" in ran.out
    assert wrangler.access.account_id in ran.out
