"""What the made-up company offers: its two brands, and what people can choose of each.

Owns data alone: the commands that `make run` gives the preference center. Invariant: each may be given again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sandbox.mailer import COMPANY, DOMAIN, OUTLET, POSTAL_ADDRESS

OUTLET_FOLDER: Final = "finch-outlet"

BRANDS: Final = {
    "default": {"name": COMPANY, "postal-address": POSTAL_ADDRESS, "contact-email": f"hello@{DOMAIN}"},
    "outlet": {
        "name": OUTLET,
        "postal-address": POSTAL_ADDRESS,
        "contact-email": f"outlet@{DOMAIN}",
        "path": OUTLET_FOLDER,
        "colour": "#8a3ffc",
        "one-click": "topic",
    },
}

Topic = dict[str, str | tuple[str, ...]]

# Nothing goes out by SMS without consent: the law of most countries is stricter there than for email.
TOPICS: Final[dict[str, Topic]] = {
    "product-news": {
        "class": "marketing",
        "basis": "consent",
        "name": "Product news",
        "description": "New from the workshop, and what we're working on.",
        "frequency": "About once a month",
        "section": "News and offers",
    },
    "offers": {
        "class": "marketing",
        "basis": "legitimate_interest",
        "name": "Offers",
        "description": "Things we made too many of, for less.",
        "frequency": "At most twice a month",
        "section": "News and offers",
    },
    "workshop-evenings": {
        "class": "marketing",
        "basis": "consent",
        "channel": ("email", "sms"),
        "name": "Evenings at the workshop",
        "description": "Open evenings and courses, with the date and a place kept for you.",
        "frequency": "Before each one, about six a year",
        "section": "From the workshop",
    },
    "catalogue": {
        "class": "marketing",
        "basis": "legitimate_interest",
        "channel": ("post",),
        "name": "The printed catalogue",
        "description": "Forty pages on paper, with the wood samples.",
        "frequency": "In spring and in autumn",
        "section": "From the workshop",
    },
    "receipts": {
        "class": "transactional",
        "basis": "contract",
        "name": "Receipts",
        "description": "What you ordered and what you paid.",
        "frequency": "With each order",
    },
    "delivery": {
        "class": "transactional",
        "basis": "contract",
        "channel": ("email", "sms"),
        "name": "Delivery",
        "description": "When it leaves the workshop, and when it is at your door.",
        "frequency": "Two messages for each order",
    },
    "outlet-finds": {
        "brand": "outlet",
        "class": "marketing",
        "basis": "soft_opt_in",
        "name": "Finds of the week",
        "description": "Single pieces with a scratch or a story.",
        "frequency": "Every Friday",
    },
    "outlet-fairs": {
        "brand": "outlet",
        "class": "marketing",
        "basis": "consent",
        "channel": ("email", "sms"),
        "name": "Fairs",
        "description": "Where our van stands, and when.",
        "frequency": "Before each fair",
    },
    "outlet-receipts": {
        "brand": "outlet",
        "class": "transactional",
        "basis": "contract",
        "name": "Outlet receipts",
        "description": "What you bought from the outlet.",
        "frequency": "With each order",
    },
}

# What each section is called: one topic of it says it for all.
SECTIONS: Final = {
    "de": {"product-news": "Neues und Angebote", "workshop-evenings": "Aus der Werkstatt"},
    "fr": {"product-news": "Nouveautés et offres", "workshop-evenings": "De l’atelier"},
    "pt": {"product-news": "Novidades e ofertas", "workshop-evenings": "Da oficina"},
    "es": {"product-news": "Novedades y ofertas", "workshop-evenings": "Desde el taller"},
    "ar": {"product-news": "الأخبار والعروض", "workshop-evenings": "من الورشة"},
}

# Name, description, frequency.
TEXTS: Final = {
    "de": {
        "product-news": (
            "Neuigkeiten",
            "Neues aus der Werkstatt und woran wir gerade arbeiten.",
            "Etwa einmal im Monat",
        ),
        "offers": ("Angebote", "Wovon wir zu viel gemacht haben, für weniger Geld.", "Höchstens zweimal im Monat"),
        "workshop-evenings": (
            "Abende in der Werkstatt",
            "Offene Abende und Kurse, mit dem Termin und einem Platz für Sie.",
            "Vor jedem Abend, etwa sechsmal im Jahr",
        ),
        "catalogue": (
            "Der gedruckte Katalog",
            "Vierzig Seiten auf Papier, mit den Holzmustern.",
            "Im Frühjahr und im Herbst",
        ),
        "receipts": ("Kaufbelege", "Was Sie bestellt und was Sie bezahlt haben.", "Bei jeder Bestellung"),
        "delivery": (
            "Lieferung",
            "Wann Ihre Bestellung die Werkstatt verlässt und wann sie bei Ihnen ankommt.",
            "Zwei Nachrichten zu jeder Bestellung",
        ),
        "outlet-finds": ("Funde der Woche", "Einzelstücke mit einem Kratzer oder einer Geschichte.", "Jeden Freitag"),
        "outlet-fairs": ("Märkte", "Wo unser Wagen steht, und wann.", "Vor jedem Markt"),
        "outlet-receipts": ("Kaufbelege des Outlets", "Was Sie im Outlet gekauft haben.", "Bei jeder Bestellung"),
    },
    "fr": {
        "product-news": (
            "Nouveautés",
            "Ce qui sort de l’atelier et ce que nous préparons.",
            "Environ une fois par mois",
        ),
        "offers": (
            "Offres",
            "Ce que nous avons fabriqué en trop, à prix réduit.",
            "Deux fois par mois au plus",
        ),
        "workshop-evenings": (
            "Soirées à l’atelier",
            "Portes ouvertes et cours, avec la date et une place pour vous.",
            "Avant chaque soirée, environ six par an",
        ),
        "catalogue": (
            "Le catalogue imprimé",
            "Quarante pages sur papier, avec les échantillons de bois.",
            "Au printemps et en automne",
        ),
        "receipts": ("Reçus", "Ce que vous avez commandé et ce que vous avez payé.", "À chaque commande"),
        "delivery": (
            "Livraison",
            "Quand votre commande quitte l’atelier et quand elle arrive chez vous.",
            "Deux messages par commande",
        ),
        "outlet-finds": (
            "Trouvailles de la semaine",
            "Des pièces uniques avec une éraflure ou une histoire.",
            "Tous les vendredis",
        ),
        "outlet-fairs": ("Foires", "Où se trouve notre camionnette, et quand.", "Avant chaque foire"),
        "outlet-receipts": ("Reçus de l’outlet", "Ce que vous avez acheté à l’outlet.", "À chaque commande"),
    },
    "pt": {
        "product-news": (
            "Novidades",
            "O que saiu da oficina e no que estamos trabalhando.",
            "Cerca de uma vez por mês",
        ),
        "offers": ("Ofertas", "O que fizemos a mais, por menos.", "No máximo duas vezes por mês"),
        "workshop-evenings": (
            "Noites na oficina",
            "Noites abertas e cursos, com a data e um lugar para você.",
            "Antes de cada uma, cerca de seis por ano",
        ),
        "catalogue": (
            "O catálogo impresso",
            "Quarenta páginas em papel, com as amostras de madeira.",
            "Na primavera e no outono",
        ),
        "receipts": ("Recibos", "O que você pediu e o que pagou.", "A cada pedido"),
        "delivery": (
            "Entrega",
            "Quando o pedido sai da oficina e quando chega à sua porta.",
            "Duas mensagens por pedido",
        ),
        "outlet-finds": (
            "Achados da semana",
            "Peças únicas com um arranhão ou uma história.",
            "Todas as sextas-feiras",
        ),
        "outlet-fairs": ("Feiras", "Onde e quando nossa van vai estar.", "Antes de cada feira"),
        "outlet-receipts": ("Recibos do outlet", "O que você comprou no outlet.", "A cada pedido"),
    },
    "es": {
        "product-news": (
            "Novedades",
            "Lo que sale del taller y lo que está en el banco de trabajo.",
            "Una vez al mes, más o menos",
        ),
        "offers": (
            "Ofertas",
            "Piezas de las que hicimos demasiadas, a menor precio.",
            "Dos veces al mes como máximo",
        ),
        "workshop-evenings": (
            "Tardes en el taller",
            "Puertas abiertas y cursos, con la fecha y una plaza para usted.",
            "Antes de cada una, unas seis al año",
        ),
        "catalogue": (
            "El catálogo impreso",
            "Cuarenta páginas en papel, con las muestras de madera.",
            "En primavera y en otoño",
        ),
        "receipts": ("Recibos", "Lo que ha pedido y pagado.", "Con cada pedido"),
        "delivery": ("Envío", "Cuándo sale del taller y cuándo llega a su puerta.", "Dos mensajes por pedido"),
        "outlet-finds": (
            "Hallazgos de la semana",
            "Piezas únicas con un rasguño o una historia.",
            "Todos los viernes",
        ),
        "outlet-fairs": ("Ferias", "Dónde para nuestra furgoneta, y cuándo.", "Antes de cada feria"),
        "outlet-receipts": ("Recibos del outlet", "Lo que ha comprado en el outlet.", "Con cada pedido"),
    },
    "ar": {
        "product-news": ("أخبار المنتجات", "ما خرج من الورشة، وما نعمل عليه الآن.", "مرة في الشهر تقريبًا"),
        "offers": ("العروض", "قطع صنعنا منها أكثر من اللازم، بسعر أقل.", "مرتان في الشهر على الأكثر"),
        "workshop-evenings": (
            "أمسيات الورشة",
            "أمسيات مفتوحة ودورات، مع الموعد ومكان محجوز لك.",
            "قبل كل أمسية، نحو ست مرات في السنة",
        ),
        "catalogue": ("الكتالوج المطبوع", "أربعون صفحة من الورق، مع عينات الخشب.", "في الربيع وفي الخريف"),
        "receipts": ("الإيصالات", "ما طلبته ودفعت ثمنه.", "مع كل طلب"),
        "delivery": ("التوصيل", "متى يغادر طلبك الورشة ومتى يصل إلى بابك.", "رسالتان لكل طلب"),
        "outlet-finds": ("لُقى الأسبوع", "قطع فريدة فيها خدش أو وراءها حكاية.", "كل يوم جمعة"),
        "outlet-fairs": ("المعارض", "أين تقف شاحنتنا، ومتى.", "قبل كل معرض"),
        "outlet-receipts": ("إيصالات الأوتلت", "ما اشتريته من الأوتلت.", "مع كل طلب"),
    },
}


def commands() -> list[list[str]]:
    """What to tell `flask`, in order."""
    return [
        *(["brand", "set", slug, *_options(brand)] for slug, brand in BRANDS.items()),
        *(["topic", "add", slug, *_options(topic), "--if-missing"] for slug, topic in TOPICS.items()),
        *(_translation(slug, language, *words) for language, texts in TEXTS.items() for slug, words in texts.items()),
    ]


def _translation(slug: str, language: str, name: str, description: str, frequency: str) -> list[str]:
    words = {"name": name, "description": description, "frequency": frequency}
    if section := SECTIONS[language].get(slug):
        words["section"] = section
    return ["topic", "translate", slug, "--language", language, *_options(words)]


def _options(values: Mapping[str, str | tuple[str, ...]]) -> list[str]:
    return [
        word
        for name, value in values.items()
        for text in ((value,) if isinstance(value, str) else value)
        for word in (f"--{name}", text)
    ]
