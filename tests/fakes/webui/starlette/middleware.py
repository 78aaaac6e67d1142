from typing import Any


class Middleware:
    def __init__(self, cls: Any, **options: Any) -> None:
        self.cls, self.options = cls, options
