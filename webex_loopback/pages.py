"""The page on which a login ends in the browser: what was granted and until when, or why not and what to do.

Plain HTML in English or Japanese, with one inline style and no script; nothing is fetched. What comes from
outside is escaped, cut, and freed of what could hide or turn text round.
"""

import base64
import hashlib
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import NamedTuple

LANGUAGES = ("en", "ja")


@dataclass(frozen=True, slots=True)
class SuccessPage:
    """A login that ended with tokens; the moments are epoch seconds, None where Webex named none."""

    profile: str
    account_name: str  # "" where it is unknown
    account_email: str
    granted: tuple[str, ...]
    missing: tuple[str, ...]  # asked for, not granted
    access_token_until: float | None
    refresh_token_until: float | None


@dataclass(frozen=True, slots=True)
class FailurePage:
    """A login that ended without tokens, or a request that is no part of it."""

    kind: str  # a key of FAILURES
    detail: str = ""  # Webex's own words, or the text of the error; English
    tracking_id: str = ""


class Failure(NamedTuple):
    """What one kind of failure is called, why it happened, and what to do now; HTML, `code` for commands."""

    title: str
    why: str
    steps: tuple[str, ...]


_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ground:#f3f5f5;--ink:#172121;--quiet:#556363;--line:#dbe2e1;
--accent:#0b6e63;--ok:#0b6e63;--ok-tint:#e2f3ef;--note:#7a4b00;--note-tint:#fdf1da;--bad:#a3232f;--bad-tint:#fdeaea}
@media (prefers-color-scheme:dark){:root{--paper:#182020;--ground:#0e1414;--ink:#e7eeed;--quiet:#9fb0ae;--line:#2c3938;
--accent:#6cd6c4;--ok:#6cd6c4;--ok-tint:#14342f;--note:#f3c275;--note-tint:#37290f;--bad:#ff9f9f;--bad-tint:#3c1f22}}
*,::before,::after{box-sizing:border-box}
html{font:100%/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Hiragino Sans","Yu Gothic UI","Noto Sans CJK JP",
"Noto Sans JP",sans-serif;background:var(--ground);color:var(--ink);-webkit-text-size-adjust:100%;
text-size-adjust:100%}
html:lang(ja){line-height:1.75;line-break:strict;
font-family:"Hiragino Sans","Yu Gothic UI","Noto Sans CJK JP","Noto Sans JP",system-ui,sans-serif}
:lang(ja) :is(h1,h2){word-break:auto-phrase}
body{margin:0;min-height:100vh;min-height:100svh;display:flex;flex-direction:column;align-items:center;
padding:1.25rem 1rem 1.5rem;overflow-wrap:anywhere}
header{display:flex;align-items:center;gap:.5rem;font-size:.875rem;font-weight:600;color:var(--quiet)}
header svg{width:1.25rem;height:1.25rem}
main{width:100%;max-width:40rem;margin:clamp(1rem,5vh,2.5rem) 0 auto;padding:clamp(1.25rem,5vw,2.5rem);
background:var(--paper);border:1px solid var(--line);border-radius:16px;
box-shadow:0 1px 2px #0000000a,0 12px 32px #0000000f}
footer{margin-top:1.5rem;max-width:40rem;font-size:.8125rem;color:var(--quiet);text-align:center;text-wrap:balance}
svg{fill:none;stroke:currentColor;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
.mark{display:grid;place-items:center;width:3.25rem;height:3.25rem;margin:0 0 1rem;border-radius:50%}
.mark svg{width:1.75rem;height:1.75rem;stroke-width:2.25}
.ok{background:var(--ok-tint);color:var(--ok)}.note{background:var(--note-tint);color:var(--note)}
.bad{background:var(--bad-tint);color:var(--bad)}
h1{margin:0 0 .35rem;font-size:clamp(1.4rem,1.15rem + 1.2vw,1.75rem);line-height:1.3;text-wrap:balance}
h2{margin:2rem 0 .6rem;font-size:1rem;line-height:1.5}
h2 small{margin-left:.35rem;font-size:.875rem;font-weight:400;color:var(--quiet)}
p,dd,li{text-wrap:pretty}p{margin:.5rem 0}.lead{color:var(--quiet)}.fine{font-size:.875rem;color:var(--quiet)}
code,pre,.chips{font:.875em/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
pre code{font-size:1em}p code,li code{white-space:nowrap}
pre{margin:.5rem 0;padding:.85rem 1rem;background:var(--ground);border:1px solid var(--line);border-radius:10px;
white-space:pre-wrap}
a{color:var(--accent);text-underline-offset:.2em}
:focus-visible{outline:3px solid var(--accent);outline-offset:3px;border-radius:4px}
dl{margin:1.5rem 0 0}dt{font-size:.875rem;color:var(--quiet)}dd{margin:0}
.who,.until{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(14rem,100%),1fr));gap:.75rem}
.who{padding:1rem 1.15rem;background:var(--ground);border-radius:12px}
.who b{display:block;line-height:1.4}.who .mail{color:var(--quiet);font-size:.875rem}
.until{margin-top:.75rem}.zone{white-space:nowrap}
.until>div{padding:1rem 1.15rem;border:1px solid var(--line);border-radius:12px}
.until .left{font-size:1.35rem;font-weight:600;line-height:1.4;font-variant-numeric:tabular-nums}
.until time{display:block;font-size:.875rem}
.until .fine{margin-top:.35rem}
.chips{margin:0;padding:0;list-style:none;display:flex;flex-wrap:wrap;gap:.4rem}
.chips li{padding:.1rem .6rem;background:var(--ok-tint);border-radius:8px}
.box{margin:1.25rem 0 0;padding:.9rem 1.15rem;border-radius:12px}
.box h2{margin:0 0 .35rem}.box .chips li{background:none;border:1px dashed;padding:.05rem .55rem}
.box h2 small{color:inherit}.box p:last-child{margin-bottom:0}
details{margin-top:.6rem}summary{cursor:pointer;width:fit-content;color:var(--accent);font-size:.875rem}
details .chips{margin-top:.6rem}
ol{margin:.5rem 0;padding-left:1.4rem}li::marker{color:var(--quiet)}ol li{padding:.2rem 0 .2rem .2rem}
figure{margin:1.5rem 0 0;padding:.1rem 0 .1rem 1rem;border-left:3px solid var(--line)}
blockquote{margin:0}figcaption{font-size:.875rem;color:var(--quiet)}
@media (max-width:26rem){.chips{font-size:.8125rem}}
@media (prefers-reduced-motion:no-preference){.mark{animation:settle .35s ease-out}}
@keyframes settle{from{transform:scale(.8)}}
@media (forced-colors:active){.mark,.box,.chips li{border:1px solid}}
@media print{header,footer,.mark{display:none}main{border:0;box-shadow:none;margin:0}}
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

# `img-src data:` is for the tab's icon: with an icon in the page no browser asks for /favicon.ico.
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none';"
            " form-action 'none'; frame-ancestors 'none'"
        ),
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
)

_LOGIN = "<code>webex-loopback login</code>"
_DOCTOR = "<code>webex-loopback doctor</code>"
_MY_APPS = '<a href="https://developer.webex.com/my-apps" rel="noreferrer">developer.webex.com/my-apps</a>'

# kind -> (English, Japanese)
FAILURES: Mapping[str, tuple[Failure, Failure]] = MappingProxyType(
    {
        "access_denied": (
            Failure(
                "Access was declined",
                "Decline was chosen on Webex’s page, so there are no tokens. Nothing was saved.",
                (
                    f"Run {_LOGIN} again and choose Allow.",
                    "If Webex does not let you allow it, your organization may have blocked the integration: "
                    "ask your Webex administrator.",
                ),
            ),
            Failure(
                "アクセスが許可されませんでした",
                "Webex の同意画面で許可されませんでした。トークンは発行されず、何も保存されていません。",
                (
                    f"もう一度 {_LOGIN} を実行し、同意画面で許可を選んでください。",
                    "許可できない場合は、組織の設定でこのインテグレーションが制限されている可能性があります。"
                    "Webex の管理者にお問い合わせください。",
                ),
            ),
        ),
        "invalid_scope": (
            Failure(
                "The integration does not have a scope that was asked for",
                "Webex only grants scopes that are ticked on the integration. Nothing was saved.",
                (
                    f"Open the integration at {_MY_APPS} and tick every scope that <code>WEBEX_SCOPES</code> names, "
                    "or take the missing one out of <code>WEBEX_SCOPES</code>.",
                    f"Run {_LOGIN} again.",
                ),
            ),
            Failure(
                "要求したスコープがインテグレーションで選択されていません",
                "Webex が許可するのは、インテグレーションで選択済みのスコープだけです。何も保存されていません。",
                (
                    f"{_MY_APPS} でインテグレーションを開き、<code>WEBEX_SCOPES</code> に書かれたスコープを"
                    "すべて選択するか、選択されていないスコープを <code>WEBEX_SCOPES</code> から削除してください。",
                    f"もう一度 {_LOGIN} を実行してください。",
                ),
            ),
        ),
        "authorization_error": (
            Failure(
                "Webex did not complete the login",
                "Webex ended the login with an error. Nothing was saved.",
                (
                    f"Run {_LOGIN} again.",
                    f"If it stays so, check the settings with {_DOCTOR}.",
                ),
            ),
            Failure(
                "Webex でログインを完了できませんでした",
                "Webex からエラーが返されました。何も保存されていません。",
                (
                    f"もう一度 {_LOGIN} を実行してください。",
                    f"解決しない場合は、{_DOCTOR} で設定を確認してください。",
                ),
            ),
        ),
        "not_this_login": (
            Failure(
                "This is not the login that is waiting",
                "This address does not belong to the login that is waiting. Nothing happened.",
                (
                    "Go on in the tab that webex-loopback opened last; its login is still waiting.",
                    f"If you cannot find that tab, press Ctrl-C in the terminal and run {_LOGIN} again.",
                ),
            ),
            Failure(
                "待機中のログインのアドレスではありません",
                "このアドレスは、現在待機しているログインのものではありません。何も変更されていません。",
                (
                    "webex-loopback が最後に開いたタブで操作を続けてください。ログインはまだ待機しています。",
                    f"タブが見つからない場合は、ターミナルで Ctrl-C を押し、もう一度 {_LOGIN} を実行してください。",
                ),
            ),
        ),
        "exchange_rejected": (
            Failure(
                "Webex did not exchange the code for tokens",
                "You gave your consent, but Webex refused the request that followed it. Nothing was saved.",
                (
                    "Check <code>WEBEX_CLIENT_ID</code>, <code>WEBEX_CLIENT_SECRET</code> and "
                    f"<code>WEBEX_REDIRECT_URI</code> against the integration at {_MY_APPS}.",
                    f"Run {_LOGIN} again: a code works only once, and only for a short time.",
                ),
            ),
            Failure(
                "認可コードをトークンに交換できませんでした",
                "アクセスは許可されましたが、その後のトークン要求が Webex に拒否されました。何も保存されていません。",
                (
                    "<code>WEBEX_CLIENT_ID</code>、<code>WEBEX_CLIENT_SECRET</code>、"
                    f"<code>WEBEX_REDIRECT_URI</code> が {_MY_APPS} の登録内容と一致しているか確認してください。",
                    f"もう一度 {_LOGIN} を実行してください。認可コードは一度しか使えず、有効期間も短いためです。",
                ),
            ),
        ),
        "unreachable": (
            Failure(
                "Webex could not be reached",
                "You gave your consent, but the request for the tokens got no usable answer. Nothing was saved.",
                (
                    f"Check the network, the proxy and its certificates; {_DOCTOR} looks at all three.",
                    f"Run {_LOGIN} again.",
                ),
            ),
            Failure(
                "Webex に接続できませんでした",
                "アクセスは許可されましたが、トークンの要求に対して有効な応答がありませんでした。何も保存されていません。",
                (
                    f"ネットワーク、プロキシ、証明書を確認してください。{_DOCTOR} でまとめて診断できます。",
                    f"もう一度 {_LOGIN} を実行してください。",
                ),
            ),
        ),
        "timeout": (
            Failure(
                "The login took too long",
                "The time limit passed before Webex’s answer arrived. Nothing was saved.",
                (
                    f"Run {_LOGIN} again.",
                    "If you need more time, set <code>WEBEX_LOGIN_TIMEOUT</code> to more seconds.",
                ),
            ),
            Failure(
                "ログインの制限時間を過ぎました",
                "制限時間内に Webex からの応答が届きませんでした。何も保存されていません。",
                (
                    f"もう一度 {_LOGIN} を実行してください。",
                    "時間が足りない場合は、<code>WEBEX_LOGIN_TIMEOUT</code> の秒数を増やしてください。",
                ),
            ),
        ),
        "cancelled": (
            Failure(
                "The login was cancelled",
                "It was stopped in the terminal. Nothing was saved.",
                (f"To log in after all, run {_LOGIN} again.",),
            ),
            Failure(
                "ログインは中止されました",
                "ターミナルで中止されました。何も保存されていません。",
                (f"ログインするには、もう一度 {_LOGIN} を実行してください。",),
            ),
        ),
        "store": (
            Failure(
                "The tokens could not be saved",
                "Webex issued tokens, but the folder for them could not be used.",
                (
                    f"{_DOCTOR} shows the folder and what is wrong with it.",
                    f"Run {_LOGIN} again afterwards.",
                ),
            ),
            Failure(
                "トークンを保存できませんでした",
                "Webex からトークンは発行されましたが、保存先のフォルダーを使用できませんでした。",
                (
                    f"{_DOCTOR} を実行すると、保存先と問題の内容を確認できます。",
                    f"問題を解決してから、もう一度 {_LOGIN} を実行してください。",
                ),
            ),
        ),
        "unexpected": (
            Failure(
                "Something unexpected went wrong",
                "The login ended with an error that webex-loopback does not know.",
                (
                    "The terminal says more.",
                    f"Run {_LOGIN} again with <code>--debug</code>, and report what it prints.",
                ),
            ),
            Failure(
                "予期しないエラーが発生しました",
                "webex-loopback が想定していないエラーにより、ログインが終了しました。",
                (
                    "詳しい内容はターミナルに表示されています。",
                    f"<code>--debug</code> を付けてもう一度 {_LOGIN} を実行し、表示された内容を報告してください。",
                ),
            ),
        ),
    }
)

# The rest: a wrong turn, or a choice of the user, is no alarm.
_NOTES = frozenset(["access_denied", "not_this_login", "timeout", "cancelled"])
_OWN_WORDS = frozenset(["not_this_login", "unreachable", "timeout", "cancelled", "store", "unexpected"])

# key -> (English, Japanese)
TEXTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "success_title": ("You are logged in", "ログインしました"),
        "success_lead": (
            "The tokens are saved. You can close this tab and go back to the terminal.",
            "トークンを保存しました。このタブを閉じて、ターミナルに戻ってください。",
        ),
        "account": ("Account", "アカウント"),
        "account_unknown": ("Unknown", "不明"),
        "profile": ("Profile", "プロファイル"),
        "access_token": ("Access token expires", "アクセストークンの有効期限"),
        "access_token_note": ("Renewed by itself before that.", "期限前に自動で更新されます。"),
        "refresh_token": ("Refresh token expires", "リフレッシュトークンの有効期限"),
        "refresh_token_note": (
            "Then you log in again; regular use usually moves the date.",
            "期限を過ぎると再ログインが必要です。通常、使い続けていれば期限は延長されます。",
        ),
        "unknown": ("unknown", "不明"),
        "until_unknown": ("Webex named no date.", "Webex の応答に期限が含まれていません。"),
        "passed": ("already passed", "期限切れ"),
        "minute": ("in 1 minute", "あと 1 分"),
        "minutes": ("in {count} minutes", "あと {count} 分"),
        "hours": ("in {count} hours", "あと {count} 時間"),
        "days": ("in {count} days", "あと {count} 日"),
        "missing": ("Asked for, but not granted", "要求したが許可されなかったスコープ"),
        "missing_do": (
            "Calls that need them will be refused. Tick them on the integration, or ask your Webex administrator; "
            "then log in again.",
            "これらのスコープが必要な API 呼び出しは拒否されます。"
            "インテグレーションでスコープを選択するか、"
            "Webex の管理者に問い合わせてから、もう一度ログインしてください。",
        ),
        "granted": ("Granted scopes", "許可されたスコープ"),
        "granted_none": ("Webex did not say which.", "Webex の応答にスコープの一覧が含まれていません。"),
        "more": ("Show {count} more", "残りの {count} 件を表示"),
        "rest": ("and {count} more", "ほか {count} 件"),
        "next": ("What to do next", "次のステップ"),
        "next_python": (
            "In Python, wherever a token is needed:",
            "Python では、トークンが必要な箇所で次のように書きます。",
        ),
        "next_shell": (
            "In a terminal, to see what is stored and until when:",
            "保存された内容と有効期限は、ターミナルで次のように確認できます。",
        ),
        "failure_next": ("What to do now", "対処方法"),
        "said_webex": ("What Webex answered", "Webex からの応答（原文）"),
        "said_error": ("The error", "エラーの内容（原文）"),
        "tracking_id": ("Tracking ID, for Webex support", "トラッキング ID（Webex サポートへの問い合わせ用）"),
        "close": ("You can close this tab.", "このタブは閉じてかまいません。"),
        "footer": (
            "This page comes from webex-loopback on your own computer.",
            "このページは、お使いのコンピューターで動作している webex-loopback が表示しています。",
        ),
        "date": (
            '{weekday} {day} {month} {year}, {clock} <span class="zone">(UTC{offset})</span>',
            '{year}年{month}{day}日（{weekday}）{clock} <span class="zone">(UTC{offset})</span>',
        ),
        # Not the locale's names: that is the terminal's language, this page's is the browser's.
        "weekdays": ("Mon Tue Wed Thu Fri Sat Sun", "月 火 水 木 金 土 日"),
        "months": (
            "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
            "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
        ),
    }
)

_ICONS = {
    "ok": '<path d="M5 12.5l4.5 4.5L19 7.5"/>',
    "note": '<path d="M12 7v6"/><path d="M12 17v.01"/>',
    "bad": '<path d="M7 7l10 10"/><path d="M17 7L7 17"/>',
}
_LOOP = "M20 12a8 8 0 1 1-2.6-5.9M20 3v4.5h-4.5"
_COLORS = {"ok": "0b6e63", "note": "9a6100", "bad": "a3232f"}

_SHOWN_SCOPES = 12  # the rest is folded
_SCOPES = 200  # the rest of the rest is counted


def choose_language(accept_language: str | None) -> str:
    """Return `en` or `ja`, whichever the header prefers (RFC 9110 §12.5.4); English where it does not say."""
    quality: dict[str, tuple[float, int]] = {}
    for position, entry in enumerate((accept_language or "")[:1000].split(",")):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        language = name.split("-")[0]
        if language in (*LANGUAGES, "*"):
            rank = (_quality(parameters), -position)
            quality[language] = max(rank, quality.get(language, rank))
    other = quality.get("*", (0.0, 0))
    english, japanese = (quality.get(language, other) for language in LANGUAGES)
    return "ja" if japanese > english and japanese[0] > 0 else "en"


def render(page: SuccessPage | FailurePage, language: str, *, now: float | None = None) -> str:
    """Return the whole HTML document, to be sent with HEADERS; `now` is the time that "in 14 days" starts from."""
    column = LANGUAGES.index(language) if language in LANGUAGES else 0
    if isinstance(page, FailurePage):
        return _failure(page, column)
    return _success(page, column, time.time() if now is None else now)


def _success(page: SuccessPage, column: int, now: float) -> str:
    say = _texts(column)
    name, email = _text(page.account_name, 120), _text(page.account_email, 254)
    mail = f' <span class="mail"><bdi>{email}</bdi></span>' if name and email else ""
    count = f" <small>{len(page.granted)}</small>" if page.granted else ""
    granted = _scopes(say, page.granted) if page.granted else f"<p>{say('granted_none')}</p>"
    body = f"""<p class="lead">{say("success_lead")}</p>
<dl class="who">
<div><dt>{say("account")}</dt><dd><b><bdi>{name or email or say("account_unknown")}</bdi></b>{mail}</dd></div>
<div><dt>{say("profile")}</dt><dd><b>{_text(page.profile, 100)}</b></dd></div>
</dl>
<dl class="until">
{_until(say, "access_token", page.access_token_until, now)}
{_until(say, "refresh_token", page.refresh_token_until, now)}
</dl>
{_missing(say, page.missing)}
<h2>{say("granted")}{count}</h2>
{granted}
{_next(say, page.profile)}"""
    return _document(column, "ok", say("success_title"), body)


def _until(say: Callable[..., str], token: str, moment: float | None, now: float) -> str:
    written = None if moment is None else _date(say, moment)
    if moment is None or written is None:
        left, more = say("unknown"), f'<dd class="fine">{say("until_unknown")}</dd>'
    else:
        left = _left(say, moment - now)
        more = f'<dd>{written}</dd><dd class="fine">{say(f"{token}_note")}</dd>'
    return f'<div><dt>{say(token)}</dt><dd class="left">{left}</dd>{more}</div>'


def _date(say: Callable[..., str], moment: float) -> str | None:
    """Write a moment in the machine's time zone; None for what is no date (NaN, or the year 50000)."""
    try:
        local = time.localtime(moment)
    except (ValueError, OverflowError, OSError):
        return None
    minutes = local.tm_gmtoff // 60
    offset = f"{'+' if minutes >= 0 else '−'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    written = say(
        "date",
        weekday=say("weekdays").split()[local.tm_wday],
        day=str(local.tm_mday),
        month=say("months").split()[local.tm_mon - 1],
        year=str(local.tm_year),
        clock=f"{local.tm_hour:02}:{local.tm_min:02}",
        offset=offset,
    )
    machine = time.strftime("%Y-%m-%dT%H:%M:%S", local) + offset.replace("−", "-")
    return f'<time datetime="{machine}">{written}</time>'


def _left(say: Callable[..., str], seconds: float) -> str:
    if seconds <= 0:
        return say("passed")
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        # Rounded: of a token of 14 days a second has passed when the page is shown.
        if seconds > 1.99 * length:
            return say(unit, count=str(round(seconds / length)))
    return say("minute")


def _missing(say: Callable[..., str], scopes: Sequence[str]) -> str:
    if not scopes:
        return ""
    return f"""<section class="box note"><h2>{say("missing")} <small>{len(scopes)}</small></h2>
{_scopes(say, scopes)}
<p>{say("missing_do")}</p></section>"""


def _scopes(say: Callable[..., str], scopes: Sequence[str]) -> str:
    shown, folded, rest = scopes[:_SHOWN_SCOPES], scopes[_SHOWN_SCOPES:_SCOPES], len(scopes) - _SCOPES
    chips = _chips(shown)
    if folded:
        counted = f'<p class="fine">{say("rest", count=str(rest))}</p>' if rest > 0 else ""
        more = say("more", count=str(len(scopes) - len(shown)))
        chips += f"<details><summary>{more}</summary>{_chips(folded)}{counted}</details>"
    return chips


def _chips(scopes: Sequence[str]) -> str:
    # role: Safari's VoiceOver takes a list without bullets for no list.
    return f'<ul class="chips" role="list">{"".join(f"<li>{_text(scope, 100)}</li>" for scope in scopes)}</ul>'


def _next(say: Callable[..., str], profile: str) -> str:
    name = _text(profile, 100)
    argument, option = ("", "") if profile == "default" else (f'"{name}"', f" --profile {name}")
    return f"""<h2>{say("next")}</h2>
<p>{say("next_python")}</p>
<pre><code>from webex_loopback import get_token

headers = {{"Authorization": f"Bearer {{get_token({argument})}}"}}</code></pre>
<p>{say("next_shell")}</p>
<pre><code>webex-loopback status{option}</code></pre>"""


def _failure(page: FailurePage, column: int) -> str:
    say = _texts(column)
    failure = FAILURES.get(page.kind, FAILURES["unexpected"])[column]
    source = "said_error" if page.kind in _OWN_WORDS else "said_webex"
    quotation = (
        f"""<figure><figcaption>{say(source)}</figcaption>
<blockquote lang="en">{_text(page.detail, 1000)}</blockquote></figure>"""
        if page.detail
        else ""
    )
    tracking = (
        f"<dl><dt>{say('tracking_id')}</dt><dd><code>{_text(page.tracking_id, 120)}</code></dd></dl>"
        if page.tracking_id
        else ""
    )
    body = f"""<p class="lead">{failure.why}</p>
{quotation}
{tracking}
<h2>{say("failure_next")}</h2>
<ol>{"".join(f"<li>{step}</li>" for step in failure.steps)}</ol>
<p class="fine">{say("close")}</p>"""
    return _document(column, "note" if page.kind in _NOTES else "bad", failure.title, body)


def _document(column: int, tone: str, title: str, body: str) -> str:
    icon = (
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%23fff'"
        f" stroke-width='3' stroke-linecap='round'%3E%3Ccircle cx='12' cy='12' r='12' fill='%23{_COLORS[tone]}'"
        f" stroke='none'/%3E{_ICONS[tone].translate({34: 39, 60: '%3C', 62: '%3E'})}%3C/svg%3E"
    )
    return f"""<!doctype html>
<html lang="{LANGUAGES[column]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title} · webex-loopback</title>
<link rel="icon" href="{icon}">
<style>{_STYLE}</style>
</head>
<body>
<header><svg viewBox="0 0 24 24" aria-hidden="true"><path d="{_LOOP}"/></svg>webex-loopback</header>
<main>
<div class="mark {tone}"><svg viewBox="0 0 24 24" aria-hidden="true">{_ICONS[tone]}</svg></div>
<h1>{title}</h1>
{body}
</main>
<footer>{_texts(column)("footer")}</footer>
</body>
</html>
"""


def _texts(column: int) -> Callable[..., str]:
    def say(key: str, **values: str) -> str:
        return TEXTS[key][column].format(**values)

    return say


def _quality(parameters: Sequence[str]) -> float:
    """Return the q-value among an entry's parameters; 1 where there is none, 0 where it is none."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0.0 <= quality <= 1.0 else 0.0
    return 1.0


def _text(text: str, length: int) -> str:
    return escape(_cut(text, length))


def _cut(text: str, length: int) -> str:
    """Return the text on one line, without what hides or turns text (controls, bidi marks, surrogates), cut."""
    line = " ".join(text[: length * 4].split())
    # The zero-width joiners are letters to Persian and to emoji.
    shown = "".join(c for c in line if c in "\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return shown if len(shown) <= length else f"{shown[: length - 1].rstrip()}…"
