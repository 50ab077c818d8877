"""A recommender behind FastAPI, written as its tutorial would, which `bench.experiments.serve_load` measures too.

usage: EDGEREC_BUNDLE=films.bundle uvicorn bench.experiments.serve_tutorial:app
"""

import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from edgerec import Recommender
from edgerec.errors import RequestError

app = FastAPI()
model = Recommender.load(os.environ["EDGEREC_BUNDLE"])


class Query(BaseModel):
    """The body of a request."""

    history: list[int]
    k: int = 10


class Item(BaseModel):
    """A recommended item."""

    item: int
    score: float
    title: str | None


@app.post("/recommend")
def recommend(query: Query) -> list[Item]:
    """Recommend items to a history."""
    try:
        found = model.recommend(history=query.history, k=query.k)
    except RequestError as error:
        raise HTTPException(status_code=400, detail=str(error)) from error
    return [Item(item=int(one.item), score=one.score, title=model.title(one.item)) for one in found]
