from typing import Any


async def run_in_threadpool(func: Any, *args: Any) -> Any:
    return func(*args)
