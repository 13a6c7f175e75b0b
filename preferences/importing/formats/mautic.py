"""Mautic: do-not-contact entries, from the database (UTC) or a report, and contacts.

A report is in its user's unstated zone: an opt-out takes the latest possible time. It is in that user's language: words
below are from Mautic's own translations.
"""

from __future__ import annotations

from typing import Final

from preferences.domain.vocabulary import Channel
from preferences.files.tables import ADDRESS_NAMES
from preferences.importing.formats.base import TRUE, Kind, Rule, make

_REASON: Final = "reason"
_AT: Final = ("date_added",)
_BOUNCED: Final = (
    *("2", "bounced", "dnc bounced", "bounced dnc", "dnc bị trả lại", "dnc gebounced", "dnc svetli"),
    *("dnc visszapattant", "dnc адскочыў", "dnc отбой", "dnc バウンス", "i̇letişim kurma geri dönen"),
    *("não contatar retornado", "rebote no contactar"),
)
_CONTACTABLE: Final = (
    *(
        "0",
        "contactable",
        "contacteerbaar",
        "contactável",
        "contattabile",
        "có thể liên hệ",
        "de contactat",
        "elérhető",
    ),
    *("i̇letişim kurulabilir", "kontakt", "kontaktierbar", "puede contactar", "кантактны", "контактный", "連絡可能"),
)
_EMAIL: Final = (
    *ADDRESS_NAMES[Channel.EMAIL],
    *("e-mail", "e-posta", "e-pošta", "e-post", "epost", "e-mail adresa", "correo electronico", "електронно писмо"),
)
_SMS: Final = (
    *("sms", "text message", "mensagem de texto", "mensaje de texto", "mesaj text", "sms bericht", "sms iletisi"),
    *("sms poruka", "szöveges üzenet", "textnachricht", "tin nhắn văn bản", "текстовое сообщение"),
    *("тэкставае паведамленне", "テキストメッセージ", "文本信息"),
)
_OTHERS: Final = (
    *("notification", "notifications", "web notification", "web notifications", "mobile notification"),
    *("mobile notifications", "mobile_notification", "push notification", "push", "browser notification"),
    *("page", "message", "marketing message", "marketing messages", "focus", "social", "tweet", "twitter", "whatsapp"),
    *("webbenachrichtigung", "web-benachrichtigung", "benachrichtigung"),
)
"""Channels that we do not send on. Other words may mean email or SMS, and count for both."""

FORMAT: Final = make(
    "mautic",
    "Mautic",
    (
        Kind(
            name="do-not-contact",
            address=("email",),
            marks=("channel", _REASON, "date_added"),
            filled=("channel", _REASON),
            nameless=True,
            is_local=True,
            also={
                _REASON: (
                    *("dnc reason", "dnc grund", "dnc ok", "dnc reden", "dnc причина", "dnc 理由", "lý do dnc"),
                    *("i̇letişim kurma nedeni", "motiv dnc", "motivo não contatar", "raison de dnc"),
                    *("razón no contactar", "прычына dnc"),
                ),
                "channel": (
                    *("dnc channel", "canal de dnc", "canal dnc", "canal no contactar", "canal não contatar"),
                    *("dnc csatorna", "dnc kanaal", "dnc kanal", "dnc канал", "dnc チャネル", "kênh dnc"),
                    *("i̇letişim kurma kanalı", "канал dnc"),
                ),
                "date_added": (
                    *("dnc date", "data dnc", "data não contatar", "date de dnc", "dnc datum", "dnc dátum"),
                    *(
                        "dnc дата",
                        "dnc 日付",
                        "fecha no contactar",
                        "i̇letişim kurmayacak tarih",
                        "ngày dnc",
                        "дата dnc",
                    ),
                ),
                "comments": (
                    *("dnc comment", "comentario no contactar", "comentariu dnc", "comentário não contatar"),
                    *("commentaire sur dnc", "dnc kommentar", "dnc megjegyzés", "dnc-comment", "dncコメント"),
                ),
                "mobile": (
                    *("cellulare", "celular", "cep telefonu", "komórka", "kännykkä", "mobiel", "mobiil", "mobil"),
                    *("mobilni telefon", "mobilnr.", "mobiltelefon", "mòbil", "móvil", "ponsel", "tel. kom."),
                    *("telemóvel", "điện thoại di động", "мабільны", "мобилен телефон", "мобильный телефон"),
                    *("мобільний телефон", "נייד", "شماره همراه", "มือถือ", "手机", "手機", "携帯電話"),
                ),
            },
            rules=(
                # An unknown reason must not allow mail.
                Rule(
                    status="unsubscribed",
                    column=_REASON,
                    but=(*_BOUNCED, *_CONTACTABLE),
                    where_not=("channel", (*_SMS, *_OTHERS)),
                    everything=True,
                    at=_AT,
                    reason=("comments",),
                ),
                Rule(
                    status="unsubscribed",
                    column=_REASON,
                    but=(*_BOUNCED, *_CONTACTABLE),
                    where=("channel", _SMS),
                    everything=True,
                    at=_AT,
                    reason=("comments",),
                    channel="sms",
                    address=("mobile", "phone"),
                ),
                Rule(
                    status="unsubscribed",
                    column=_REASON,
                    but=(*_BOUNCED, *_CONTACTABLE),
                    where_not=("channel", (*_EMAIL, *_SMS, *_OTHERS)),
                    everything=True,
                    at=_AT,
                    reason=("comments",),
                    channel="sms",
                    address=("mobile", "phone"),
                    if_there=True,
                ),
                Rule(
                    status="hard_bounce",
                    column=_REASON,
                    values=_BOUNCED,
                    where_not=("channel", (*_SMS, *_OTHERS)),
                    at=_AT,
                    reason=("comments",),
                ),
            ),
            evidence=("channel", _REASON),
        ),
        Kind(
            name="contacts",
            address=("email",),
            marks=("doNotContact",),
            known={"doNotContact": ("", "0", "false", "no", *TRUE)},
            rules=(Rule(status="unsubscribed", column="doNotContact", values=TRUE, everything=True),),
        ),
        # The contacts page: field aliases, no preferences.
        Kind(name="profiles", address=("email",), marks=("firstname", "lastname", "points"), nameless=True),
    ),
)
