"""Another of LiteLLM's callbacks, such as its users have: it writes down all that it is given."""

from __future__ import annotations

import os
from typing import Any

from litellm.integrations.custom_logger import CustomLogger


class Witness(CustomLogger):
    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        self._write("before", kwargs)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._write("success", kwargs, response_obj)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._write("failure", kwargs, response_obj)

    async def async_post_call_failure_hook(
        self, request_data: Any, original_exception: Any, user_api_key_dict: Any, traceback_str: str | None = None
    ) -> None:
        self._write("failed", request_data, original_exception, user_api_key_dict, traceback_str)

    def _write(self, *what: Any) -> None:
        with open(os.environ["WITNESS"], "a") as file:
            file.write(repr(what) + "\n")


everything = Witness()
