"""The pages that a person sees in this Webex: login, consent, errors, device login, and what it is.

Plain HTML with one inline style: no script, nothing fetched. Same look as the product's own pages, no code of theirs.
"""

import base64
import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from html import escape
from types import MappingProxyType

LANGUAGES = ("en", "ja")

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ground:#f4f4f7;--ink:#1c1b29;--quiet:#5b5a6b;--line:#dddce6;
--edge:#8a889b;--accent:#4a3fb0;--on-accent:#fff;--tint:#eeecfb;--bad:#a3232f;--bad-tint:#fdeeee;--tape:#e0a100}
@media (prefers-color-scheme:dark){:root{--paper:#1d1c26;--ground:#121118;--ink:#ecebf3;--quiet:#a9a7b9;
--line:#34323f;--edge:#7d7b90;--accent:#b9b1ff;--on-accent:#1a1533;--tint:#2a2740;--bad:#ff9d9d;--bad-tint:#3a2024;
--tape:#c99200}}
*,::before,::after{box-sizing:border-box}
html{font:100%/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Hiragino Sans","Yu Gothic UI","Noto Sans CJK JP",
"Noto Sans JP",sans-serif;background:var(--ground);color:var(--ink);-webkit-text-size-adjust:100%;text-size-adjust:100%}
html:lang(ja){line-height:1.75;line-break:strict;
font-family:"Hiragino Sans","Yu Gothic UI","Noto Sans CJK JP","Noto Sans JP",system-ui,sans-serif}
:lang(ja) :is(h1,h2,label){word-break:auto-phrase}
body{margin:0;min-height:100vh;min-height:100svh;display:flex;flex-direction:column;align-items:center;
padding:0 1rem 2rem;overflow-wrap:anywhere}
header{align-self:stretch;margin:0 -1rem;padding:.9rem 1rem .5rem;text-align:center;
text-wrap:balance;font-size:.875rem;color:var(--quiet);
border-top:6px solid;border-image:repeating-linear-gradient(-45deg,var(--tape) 0 12px,#26242f 12px 24px) 6}
header b{color:var(--ink);letter-spacing:.02em}
main{width:100%;max-width:32rem;margin:clamp(.75rem,6vh,3.5rem) 0 auto;padding:clamp(1.25rem,5vw,2.25rem);
background:var(--paper);border:1px solid var(--line);border-radius:16px;
box-shadow:0 1px 2px #0000000a,0 12px 32px #0000000f}
main.wide{max-width:44rem}
h1{margin:0 0 .5rem;font-size:clamp(1.35rem,1.15rem + 1vw,1.65rem);line-height:1.3;text-wrap:balance}
h2{margin:1.75rem 0 .5rem;font-size:.875rem;color:var(--quiet);font-weight:600}
p,li{text-wrap:pretty}p{margin:.5rem 0}.lead{color:var(--quiet)}.fine{font-size:.875rem;color:var(--quiet)}
code,kbd,pre{font:.875em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
pre{margin:.5rem 0;padding:.85rem 1rem;background:var(--ground);border:1px solid var(--line);border-radius:10px;
white-space:pre-wrap}
ul{margin:.5rem 0;padding:0;list-style:none}
.scopes li{padding:.55rem 0 .55rem 1.75rem;border-top:1px solid var(--line);position:relative}
.scopes li:first-child{border-top:0}
.scopes li::before{content:"";position:absolute;left:.25rem;top:1.05rem;width:.85rem;height:.45rem;
border:solid var(--accent);border-width:0 0 2px 2px;transform:rotate(-45deg)}
.scopes code{display:block;color:var(--quiet);font-size:.8125rem}
.plain li{padding:.15rem 0}
.columns{columns:17rem;column-gap:2rem}
.columns li{break-inside:avoid}
.who{display:flex;align-items:center;gap:.75rem;margin:1.25rem 0;padding:.65rem .85rem;background:var(--ground);
border-radius:12px}
.face{flex:none;display:grid;place-items:center;width:2.5rem;height:2.5rem;border-radius:50%;background:var(--tint);
color:var(--accent);font-weight:600}
.name{display:block;font-weight:600;line-height:1.4}.mail{display:block;color:var(--quiet);font-size:.875rem;line-height:1.4}
button{font:inherit;color:inherit;cursor:pointer}
.account{display:flex;width:100%;align-items:center;gap:.75rem;margin:.6rem 0;padding:.65rem .85rem;text-align:left;
background:var(--paper);border:1px solid var(--edge);border-radius:12px}
.account:hover{background:var(--tint);border-color:var(--accent)}
.main,.other{min-height:2.75rem;padding:.5rem 1.4rem;border-radius:999px;font-weight:600;border:1px solid var(--accent)}
.main{background:var(--accent);color:var(--on-accent)}.other{background:var(--paper);border-color:var(--edge)}
.main:hover{box-shadow:inset 0 0 0 99px #0000001f}.other:hover{background:var(--tint);border-color:var(--accent)}
.choice{bottom:0;display:flex;flex-wrap:wrap;gap:.75rem;margin:1rem 0 -.75rem;padding:.9rem 0 .75rem;
background:var(--paper);border-top:1px solid var(--line)}
.choice button{flex:1 1 8rem}
label{display:block;margin:1.1rem 0 .3rem;font-weight:600}
.field{display:flex;flex-wrap:wrap;gap:.6rem}
input{flex:1 1 12rem;min-width:0;min-height:2.75rem;padding:.4rem .85rem;font:inherit;color:inherit;
background:var(--paper);border:1px solid var(--edge);border-radius:10px}
input.code{font-size:1.35rem;letter-spacing:.25em;font-variant-numeric:tabular-nums}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.alert{margin:1rem 0;padding:.7rem .95rem;background:var(--bad-tint);color:var(--bad);border-left:4px solid;
border-radius:6px}
blockquote{margin:1rem 0;padding:.6rem 1rem;border-left:4px solid var(--line);color:var(--quiet)}
blockquote p{margin:0}
dl{margin:1rem 0 0;font-size:.875rem}dt{color:var(--quiet)}dd{margin:0 0 .5rem}
@media (min-height:32rem){.choice{position:sticky}}
@media (max-width:22rem){.face{display:none}.plain code{font-size:.8125rem}}
@media (forced-colors:active){.main,.account,.other,.alert{border:1px solid}}
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

# No form-action: Chromium applies it to the redirect that follows the form too, and that goes to the client's
# redirect URI. Referrer-Policy makes browsers send `Origin: null` with the form, so no Origin check is possible.
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none';"
            " frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
    }
)

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E"
    "%3Crect width='32' height='32' rx='8' fill='%234a3fb0'/%3E"
    "%3Cpath d='M8 22h16M11 22V12l5-4 5 4v10' fill='none' stroke='%23fff' stroke-width='3'/%3E%3C/svg%3E"
)

# key -> (English, Japanese); HTML, values in {} are escaped before they get here.
TEXTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "banner": (
            "<b>Sandbox.</b> This is not Webex; everything stays on this computer.",
            "<b>サンドボックス</b>：本物の Webex ではありません。通信はこのコンピューター内で完結します。",
        ),
        "login_title": ("Who is logging in?", "ログインするアカウントを選択"),
        "login_lead": (
            "Choose one of the sandbox’s people. No password is asked for.",
            "サンドボックスのアカウントを選んでください。パスワードは必要ありません。",
        ),
        "login_other": ("Or any other e-mail address", "または、別のメールアドレスを入力"),
        "login_continue": ("Continue", "続ける"),
        "consent_title": ("{integration} asks for access", "{integration} がアクセスを求めています"),
        "consent_lead": (
            "If you allow it, it can do the following on your behalf:",
            "許可すると、このインテグレーションはあなたに代わって次の操作を行えるようになります。",
        ),
        "account": ("Account", "アカウント"),
        "permissions": ("Permissions ({count})", "権限（{count} 件）"),
        "no_scopes": ("It asks for no permission.", "要求されている権限はありません。"),
        "allow": ("Allow", "許可する"),
        "decline": ("Decline", "許可しない"),
        "error_status": ("HTTP status", "HTTP ステータス"),
        "tracking_id": ("Tracking ID", "トラッキング ID"),
        "error_next": (
            "Nothing was sent back to the application. You can close this tab.",
            "アプリケーションには何も返されていません。このタブは閉じてかまいません。",
        ),
        "device_title": ("Connect a device", "デバイスを接続"),
        "device_lead": (
            "Enter the code that the device or the terminal shows.",
            "デバイスまたはターミナルに表示されているコードを入力してください。",
        ),
        "device_code": ("Code", "コード"),
        "device_continue": ("Continue", "続ける"),
        "device_allowed_title": ("Device connected", "デバイスを接続しました"),
        "device_allowed": (
            "Go back to the device or the terminal; it goes on by itself. You can close this tab.",
            "デバイスまたはターミナルに戻ってください。処理は自動的に続きます。このタブは閉じてかまいません。",
        ),
        "device_declined_title": ("Access declined", "アクセスは許可されませんでした"),
        "device_declined": (
            "The device received no access. You can close this tab.",
            "デバイスにアクセス権は付与されていません。このタブは閉じてかまいません。",
        ),
        "home_title": ("A small Webex to practise with", "練習用の小さな Webex"),
        "home_lead": (
            "It logs people in, asks for consent and hands out tokens as Webex does, but with invented people and "
            "without an account.",
            "ログイン、同意の確認、トークンの発行を Webex と同じように行います。登場するのは架空のユーザーだけで、"
            "アカウントは必要ありません。",
        ),
        "home_settings": ("Point webex-loopback at it", "webex-loopback をこのサンドボックスに接続する"),
        "home_secret": (
            "The client secret is shown in the terminal that runs the sandbox.",
            "クライアントシークレットは、サンドボックスを起動したターミナルに表示されています。",
        ),
        "home_login": ("Then log in", "続けてログインする"),
        "home_redirect_uris": ("Registered redirect URIs ({count})", "登録済みのリダイレクト URI（{count} 件）"),
        "home_exact": (
            "Compared character for character, as Webex does.",
            "Webex と同じく、一字一句照合されます。",
        ),
        "home_scopes": ("Registered scopes ({count})", "登録済みのスコープ（{count} 件）"),
        "more": ("and {count} more", "ほか {count} 件"),
    }
)

# What a scope allows, in the words of a consent page; (English, Japanese).
SCOPE_WORDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "openid": ("Know who you are", "ユーザーの識別"),
        "email": ("See your e-mail address", "メールアドレスの閲覧"),
        "profile": ("See your name and profile", "名前とプロフィールの閲覧"),
        "phone": ("See your phone number", "電話番号の閲覧"),
        "address": ("See your postal address", "住所の閲覧"),
        "spark:all": (
            "Everything you can do in the Webex app, in your name",
            "Webex アプリでのすべての操作（本人として）",
        ),
        "spark:kms": (
            "Read encrypted content, with the keys for it",
            "暗号化されたコンテンツの読み取り（暗号鍵を使用）",
        ),
        "spark:people_read": ("See people in your organization", "組織内のユーザー情報の閲覧"),
        "spark:people_write": ("Change your own profile", "自分のプロフィールの変更"),
        "spark:rooms_read": ("See your spaces", "参加しているスペースの閲覧"),
        "spark:rooms_write": ("Create, change and delete spaces", "スペースの作成・変更・削除"),
        "spark:messages_read": ("Read the messages in your spaces", "スペース内のメッセージの閲覧"),
        "spark:messages_write": ("Send and delete messages as you", "本人としてのメッセージの送信と削除"),
        "spark:memberships_read": ("See who is in your spaces", "スペースのメンバーの閲覧"),
        "spark:memberships_write": ("Add people to spaces and remove them", "スペースのメンバーの追加と削除"),
        "spark:teams_read": ("See your teams", "所属チームの閲覧"),
        "spark:teams_write": ("Create, change and delete teams", "チームの作成・変更・削除"),
        "spark:team_memberships_read": ("See who is in your teams", "チームのメンバーの閲覧"),
        "spark:team_memberships_write": ("Add people to teams and remove them", "チームのメンバーの追加と削除"),
        "spark:calls_read": ("See your calls and call history", "通話と通話履歴の閲覧"),
        "spark:calls_write": ("Make and control calls as you", "本人としての発信と通話の操作"),
        "spark:devices_read": ("See your devices", "デバイスの閲覧"),
        "spark:devices_write": ("Change and delete your devices", "デバイスの変更と削除"),
        "spark:xapi_statuses": ("Read the status of your devices", "デバイスのステータスの取得"),
        "spark:xapi_commands": ("Send commands to your devices", "デバイスへのコマンドの送信"),
        "spark:webrtc_calling": ("Make calls from the browser", "ブラウザーからの通話"),
        "spark:xsi": ("Use your calling services (XSI)", "通話サービス（XSI）の利用"),
        "spark:applications_token": ("Manage tokens of service apps", "サービスアプリのトークンの管理"),
        "spark:mcp": ("Use Webex’s MCP servers", "Webex の MCP サーバーの利用"),
        "meeting:schedules_read": ("See your meetings", "ミーティングの予定の閲覧"),
        "meeting:schedules_write": ("Schedule, change and cancel meetings", "ミーティングの予約・変更・キャンセル"),
        "meeting:participants_read": ("See who took part in your meetings", "ミーティングの参加者の閲覧"),
        "meeting:participants_write": ("Admit and manage meeting participants", "ミーティング参加者の入室許可と管理"),
        "meeting:recordings_read": ("See and download your recordings", "録画の閲覧とダウンロード"),
        "meeting:recordings_write": ("Change and delete your recordings", "録画の変更と削除"),
        "meeting:transcripts_read": ("Read the transcripts of your meetings", "ミーティングの文字起こしの閲覧"),
        "meeting:preferences_read": ("See your meeting preferences", "ミーティング設定の閲覧"),
        "meeting:preferences_write": ("Change your meeting preferences", "ミーティング設定の変更"),
        "meeting:controls_read": ("See the controls of running meetings", "進行中のミーティングの状態の閲覧"),
        "meeting:controls_write": ("Control running meetings", "進行中のミーティングの操作"),
        "meeting:admin_schedule_read": (
            "See everyone’s meetings, as an administrator",
            "全ユーザーのミーティングの閲覧（管理者）",
        ),
        "spark-admin:people_read": ("See all users, as an administrator", "全ユーザーの閲覧（管理者）"),
        "spark-admin:people_write": ("Add, change and delete users", "ユーザーの追加・変更・削除（管理者）"),
        "spark-admin:organizations_read": ("See your organization’s details", "組織情報の閲覧（管理者）"),
        "spark-admin:licenses_read": ("See licenses and their use", "ライセンスと使用状況の閲覧（管理者）"),
        "spark-admin:roles_read": ("See the roles that users can have", "ユーザーロールの閲覧（管理者）"),
        "spark-admin:locations_read": ("See your organization’s locations", "拠点の閲覧（管理者）"),
        "spark-admin:locations_write": ("Add and change locations", "拠点の追加と変更（管理者）"),
        "spark-admin:workspaces_read": ("See workspaces", "ワークスペースの閲覧（管理者）"),
        "spark-admin:workspaces_write": (
            "Add, change and delete workspaces",
            "ワークスペースの追加・変更・削除（管理者）",
        ),
        "spark-admin:devices_read": ("See all devices, as an administrator", "全デバイスの閲覧（管理者）"),
        "spark-admin:devices_write": ("Add, change and delete devices", "デバイスの追加・変更・削除（管理者）"),
        "spark-admin:telephony_config_read": ("See the calling configuration", "通話設定の閲覧（管理者）"),
        "spark-admin:telephony_config_write": ("Change the calling configuration", "通話設定の変更（管理者）"),
        "spark-admin:calling_cdr_read": ("Read detailed call records", "通話詳細記録の閲覧（管理者）"),
        "spark-admin:call_qualities_read": (
            "See the quality of meetings and calls",
            "ミーティングと通話の品質の閲覧（管理者）",
        ),
        "spark-compliance:messages_read": (
            "Read everyone’s messages, for compliance",
            "全メッセージの閲覧（コンプライアンス）",
        ),
        "spark-compliance:events_read": (
            "Read everyone’s events, for compliance",
            "全イベントの閲覧（コンプライアンス）",
        ),
        "identity:tokens_read": ("See which tokens users have", "ユーザーのトークンの閲覧（管理者）"),
        "identity:tokens_write": ("Revoke tokens of users", "ユーザーのトークンの取り消し（管理者）"),
        "identity:people_rw": ("Manage identities of users", "ユーザーのアイデンティティ情報の管理（管理者）"),
        "cjp:config_read": ("See the Contact Center configuration", "Contact Center の設定の閲覧"),
        "cjp:config_write": ("Change the Contact Center configuration", "Contact Center の設定の変更"),
        "cjp:user": ("Work as a Contact Center agent", "Contact Center のエージェントとしての操作"),
    }
)

_SHOWN = 100  # list entries; the rest is counted


def login_page(
    language: str,
    *,
    action: str,
    hidden: Mapping[str, str],
    accounts: Sequence[tuple[str, str]],
    login_hint: str = "",
    error: str = "",
) -> str:
    """Ask who logs in; posts `email` and the hidden fields. `accounts` are pairs of e-mail address and name."""
    say = _texts(language)
    hint = login_hint.strip().casefold()
    known = hint in {email.casefold() for email, _ in accounts}
    buttons = "".join(
        f'<button class="account" name="email" value="{escape(email)}"'
        f"{' autofocus' if email.casefold() == hint else ''}>{_person(email, name)}</button>"
        for email, name in accounts
    )
    typed = "" if known else escape(_cut(login_hint, 254))
    field = f"""<label for="email">{say("login_other")}</label>
<div class="field"><input id="email" name="email" type="email" required autocomplete="off" maxlength="254"
 value="{typed}"><button class="other">{say("login_continue")}</button></div>"""
    # Two forms: in one, the text field would be sent beside the e-mail address of the button.
    body = f"""<h1>{say("login_title")}</h1>
<p class="lead">{say("login_lead")}</p>
{_alert(error)}
{_form(action, hidden, buttons) if accounts else ""}
{_form(action, hidden, field)}"""
    return _document(language, say("login_title"), body)


def consent_page(
    language: str,
    *,
    action: str,
    hidden: Mapping[str, str],
    integration: str,
    account_name: str,
    account_email: str,
    scopes: Sequence[str],
) -> str:
    """Ask for consent; posts `decision` (`allow` or `decline`) and the hidden fields."""
    say = _texts(language)
    title = say("consent_title", integration=_text(integration, 80))
    if scopes:
        asked = f"""<p>{say("consent_lead")}</p>
<h2>{say("permissions", count=str(len(scopes)))}</h2>
<ul class="scopes">{_list(language, [_scope(language, scope) for scope in scopes])}</ul>"""
    else:
        asked = f"<p>{say('no_scopes')}</p>"
    # In one form with the list, so that the buttons can stay in view beside all of it.
    buttons = f"""<div class="choice"><button class="main" name="decision" value="allow">{say("allow")}</button>
<button class="other" name="decision" value="decline">{say("decline")}</button></div>"""
    body = f"""<h1>{title}</h1>
<div class="who">{_person(account_email, account_name)}</div>
{_form(action, hidden, asked + buttons)}"""
    return _document(language, title, body)


def error_page(language: str, *, status: int, title: str, detail: str, tracking_id: str) -> str:
    """Say in Webex's own (English) words what is wrong with a request that cannot be redirected."""
    say = _texts(language)
    quotation = f'<blockquote lang="en"><p>{_text(detail, 1000)}</p></blockquote>' if detail else ""
    tracking = f"<dt>{say('tracking_id')}</dt><dd><code>{_text(tracking_id, 120)}</code></dd>" if tracking_id else ""
    body = f"""<h1 lang="en">{_text(title, 200)}</h1>
{quotation}
<p>{say("error_next")}</p>
<dl><dt>{say("error_status")}</dt><dd>{status}</dd>{tracking}</dl>"""
    return _document(language, _text(title, 80), body)


def device_page(language: str, *, action: str, hidden: Mapping[str, str], user_code: str = "", error: str = "") -> str:
    """Ask for the code of a device login (RFC 8628 §3.3); posts `user_code` and the hidden fields."""
    say = _texts(language)
    field = f"""<label for="code">{say("device_code")}</label>
<div class="field"><input class="code" id="code" name="user_code" required autocomplete="off" inputmode="numeric"
 maxlength="40" value="{escape(_cut(user_code, 40))}"><button class="main">{say("device_continue")}</button></div>"""
    body = f"""<h1>{say("device_title")}</h1>
<p class="lead">{say("device_lead")}</p>
{_alert(error)}
{_form(action, hidden, field)}"""
    return _document(language, say("device_title"), body)


def device_done_page(language: str, *, allowed: bool) -> str:
    """Say how the device login ended, and that the rest happens on the device."""
    say = _texts(language)
    outcome = "device_allowed" if allowed else "device_declined"
    title = say(f"{outcome}_title")
    return _document(language, title, f"<h1>{title}</h1>\n<p>{say(outcome)}</p>")


def home_page(
    language: str, *, base_url: str, client_id: str, redirect_uris: Sequence[str], scopes: Sequence[str]
) -> str:
    """Say what this server is, and which lines of `config.env` lead to it."""
    say = _texts(language)
    settings = "\n".join(
        f"{name}={_text(value, 300)}"
        for name, value in (
            ("WEBEX_API_BASE_URL", base_url),
            ("WEBEX_CLIENT_ID", client_id),
            ("WEBEX_REDIRECT_URI", redirect_uris[0] if redirect_uris else ""),
        )
    )
    body = f"""<h1>{say("home_title")}</h1>
<p class="lead">{say("home_lead")}</p>
<h2>{say("home_settings")}</h2>
<pre><code>{settings}</code></pre>
<p class="fine">{say("home_secret")}</p>
<h2>{say("home_login")}</h2>
<pre><code>webex-loopback login</code></pre>
<h2>{say("home_redirect_uris", count=str(len(redirect_uris)))}</h2>
<p class="fine">{say("home_exact")}</p>
<ul class="plain">{_list(language, [_code(uri) for uri in redirect_uris])}</ul>
<h2>{say("home_scopes", count=str(len(scopes)))}</h2>
<ul class="plain columns">{_list(language, [_code(scope) for scope in scopes])}</ul>"""
    return _document(language, say("home_title"), body, wide=True)


def _texts(language: str) -> Callable[..., str]:
    """Return the lookup of one language; an unknown one reads English."""
    column = _column(language)

    def say(key: str, **values: str) -> str:
        return TEXTS[key][column].format(**values)

    return say


def _column(language: str) -> int:
    return LANGUAGES.index(language) if language in LANGUAGES else 0


def _document(language: str, title: str, body: str, *, wide: bool = False) -> str:
    return f"""<!doctype html>
<html lang="{LANGUAGES[_column(language)]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Sandbox</title>
<link rel="icon" href="{_ICON}">
<style>{_STYLE}</style>
</head>
<body>
<header>{_texts(language)("banner")}</header>
<main{' class="wide"' if wide else ""}>
{body}
</main>
</body>
</html>
"""


def _form(action: str, hidden: Mapping[str, str], fields: str) -> str:
    inputs = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in hidden.items()
    )
    return f'<form method="post" action="{escape(action)}">{inputs}{fields}</form>'


def _person(email: str, name: str) -> str:
    initial = _cut(name or email, 80)[:1].upper()
    named = f'<span class="name"><bdi>{_text(name, 80)}</bdi></span>' if name else ""
    return (
        f'<span class="face" aria-hidden="true">{escape(initial)}</span>'
        f'<span>{named}<span class="mail"><bdi>{_text(email, 254)}</bdi></span></span>'
    )


def _scope(language: str, scope: str) -> str:
    words = SCOPE_WORDS.get(scope)
    return f"{words[_column(language)]} {_code(scope)}" if words else _code(scope)


def _list(language: str, entries: Sequence[str]) -> str:
    rest = len(entries) - _SHOWN
    more = [_texts(language)("more", count=str(rest))] if rest > 0 else []
    return "".join(f"<li>{entry}</li>" for entry in [*entries[:_SHOWN], *more])


def _alert(error: str) -> str:
    return f'<p class="alert" role="alert">{_text(error, 500)}</p>' if error else ""


def _code(text: str) -> str:
    return f"<code>{_text(text, 200)}</code>"


def _text(text: str, length: int) -> str:
    return escape(_cut(text, length))


def _cut(text: str, length: int) -> str:
    """Return the text on one line, without what hides or turns text (controls, bidi marks, surrogates), cut."""
    line = " ".join(text[: length * 4].split())
    # The zero-width joiners are letters to Persian and to emoji.
    shown = "".join(c for c in line if c in "\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return shown if len(shown) <= length else f"{shown[: length - 1].rstrip()}…"
