"""The demo's page in Gradio, without requests to other servers, telemetry or permanent copies of images."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ssd.demo.own_origin import OwnOrigin, own_names
from ssd.demo.search import Answer, Search
from ssd.errors import ArgumentError, SSDError
from ssd.system.optional import load_extra

_COLUMNS = ("name", "score", "x1", "y1", "x2", "y2")


def build_page(search: Search, folder: Path, kept_seconds: float) -> Any:
    """Build the page, a `gradio.Blocks`.

    Files to download are written into `folder`, and answers are deleted after `kept_seconds`.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    gr = load_extra("gradio", "demo")
    with gr.Blocks(title="SSD", analytics_enabled=False) as page:
        gr.Markdown("# SSD\nDrop an image, paste one or take one with the camera. It stays on this machine.")
        answer = gr.State(time_to_live=kept_seconds)
        with gr.Row():
            weights = gr.Dropdown(list(search.choices), value=search.choices[0], label="Weights", elem_id="weights")
            slider = gr.Slider(0.01, 1, value=0.5, step=0.01, label="Score threshold", elem_id="threshold")
            own = gr.Checkbox(True, label="Instead the weights' own thresholds, where they have some", elem_id="own")
        with gr.Row():
            sources = ["upload", "webcam", "clipboard"]
            image = gr.Image(type="filepath", sources=sources, label="Image", buttons=[], elem_id="image")
            image.preprocess = _uploaded  # Gradio would decode the image by different rules and encode it again
            with gr.Column():
                buttons = ["download", "fullscreen"]  # without Gradio's button that shares with a web site
                drawn = gr.Image(format="jpeg", show_label=False, interactive=False, buttons=buttons, elem_id="drawn")
                summary = gr.Markdown(elem_id="summary")
        table = gr.Dataframe(
            headers=list(_COLUMNS),
            interactive=False,
            max_height=300,
            elem_id="table",
            label="Boxes in pixels, best first",
        )
        download = gr.DownloadButton("Download JSON", interactive=False, elem_id="download")
        shown = [drawn, summary, table, download]
        gr.on(
            [image.change, weights.change],
            _searching(gr, search, folder),
            [image, weights, slider, own],
            [answer, *shown],
            api_visibility="private",
        )
        gr.on(
            [slider.change, own.change],
            _showing(gr, folder), [answer, slider, own], shown,
            trigger_mode="always_last", show_progress="hidden", api_visibility="private",
        )  # fmt: skip
    return page.queue(max_size=20, default_concurrency_limit=1)


def _uploaded(payload: Any) -> str | None:
    return None if payload is None else payload.path


def _searching(gr: Any, search: Search, folder: Path) -> Callable[..., list[Any]]:
    def find(image: str | None, weights: str, threshold: float, own: bool = True) -> list[Any]:
        if image is None:
            return [None, *_nothing(gr)]
        try:
            answer = search.find(Path(image), weights)
        except SSDError as error:
            return [None, *_nothing(gr, f"Error: {error}")]
        return [answer, *_parts(gr, answer, None if own and answer.has_own else threshold, folder)]

    return find


def _showing(gr: Any, folder: Path) -> Callable[..., list[Any]]:
    def show(answer: Answer | None, threshold: float, own: bool = True) -> list[Any]:
        if answer is None:
            return _nothing(gr)
        return _parts(gr, answer, None if own and answer.has_own else threshold, folder)

    return show


def _parts(gr: Any, answer: Answer, threshold: float | None, folder: Path) -> list[Any]:
    """The parts of the page for an answer: the drawn image, the summary, the table, the file to download."""
    rows = [
        [item.name, round(item.score, 3), *(round(side, 1) for side in item.box)] for item in answer.above(threshold)
    ]
    # Each answer has its own folder, since the file is named after the image and names may repeat.
    path = Path(tempfile.mkdtemp(dir=folder)) / f"{Path(answer.name).stem}.json"
    path.write_text(answer.json(threshold), encoding="utf-8", errors="backslashreplace")
    button = gr.DownloadButton(value=str(path), interactive=True)
    return [answer.drawn(threshold), answer.summary(threshold), rows, button]


def _nothing(gr: Any, summary: str = "") -> list[Any]:
    return [None, summary, [], gr.DownloadButton(value=None, interactive=False)]


def serve(
    page: Any, host: str, port: int | None, max_megabytes: int, *, browser: bool, allow_hosts: Sequence[str] = ()
) -> str:
    """Start the server in the background and return the page's address.

    Browsers may ask for it as this machine, as `host`, and as `allow_hosts`.

    Raises:
        ArgumentError: the server cannot listen at the address.
    """
    gr = load_extra("gradio", "demo")
    middleware: list[Any] = [(OwnOrigin, (own_names(host, allow_hosts),), {})]
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            inbrowser=browser,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=max_megabytes * 1024**2,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            state_session_capacity=50,
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            app_kwargs={"middleware": middleware, "docs_url": None, "redoc_url": None},
        )
    except OSError as error:
        problem = f"cannot be listened at ({error})"
        raise ArgumentError(problem, place=f"{host}:{port or 7860}", remedy="Name another with --port.") from None
    return str(address)
