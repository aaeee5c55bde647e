"""Dates as days since 1970, as pandas counts them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.dates import as_days
from fedray.data.encoding.reading import read_csv
from tests.data.reading import Files, inputs

FORMATS = ["%Y-%m-%d", "%d.%m.%Y", "%Y/%m/%d", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S"]


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.replace(microsecond=0)),
    st.sampled_from(FORMATS),
)
def test_a_date_is_the_number_that_pandas_gives(moment: datetime, form: str) -> None:
    word = moment.strftime(form)
    found = as_days([word])
    assert found is not None
    expected = (pd.to_datetime(word, format=form) - pd.Timestamp(0)) / pd.Timedelta(days=1)
    assert found[word] == pytest.approx(expected, abs=1e-9)


def test_day_and_month_are_told_apart_or_asked_for() -> None:
    assert as_days(["13/02/1970", "01/02/1970"]) == {"13/02/1970": 43.0, "01/02/1970": 31.0}
    assert as_days(["02/13/1970", "02/01/1970"]) == {"02/13/1970": 43.0, "02/01/1970": 31.0}
    assert as_days(["05/05/1970"]) == {"05/05/1970": 124.0}
    with pytest.raises(ConfigError, match=r"'01/02/1970' may have the day first or the month.*dates: '%d/%m/%Y'"):
        as_days(["01/02/1970"])
    assert as_days(["01/02/1970"], "%m/%d/%Y") == {"01/02/1970": 1.0}
    assert as_days(["1970-01-01T01:00:00+01:00"]) == {"1970-01-01T01:00:00+01:00": 0.0}
    assert as_days([]) is None
    assert as_days(["31.12.1970", "tomorrow"]) is None


def test_a_column_of_dates_is_an_input_and_files_may_write_it_differently(write: Files) -> None:
    start = datetime(2024, 2, 27)
    days = [start + timedelta(days=n) for n in range(4)]
    a = write("a.csv", "seen;y\n" + "".join(f"{day:%d.%m.%Y};{'pq'[n % 2]}\n" for n, day in enumerate(days)))
    b = write("b.csv", "seen,y\n" + "".join(f"{day:%Y-%m-%d},p\n" for day in days) + ",q\n")
    data = FederatedData.from_csv([a, b], target="y", standardize=False)
    expected = [19780.0 + n for n in range(4)]
    assert inputs(data, 0)[:, 0].tolist() == expected
    assert inputs(data, 1)[:, 0].tolist() == [*expected, 19781.5]
    assert data.encoding is not None
    assert data.encoding["columns"][0]["kind"] == "dates"
    assert data.notes[-2:] == (f"{a}: delimiter semicolon", "dates, taken as days since 1970-01-01: seen")
    c = write("c.csv", "seen,y\n45000,p\n")
    with pytest.raises(ConfigError, match=r"column 'seen' has dates in .*a\.csv, numbers in .*c\.csv"):
        FederatedData.from_csv([a, c], target="y")
    with pytest.raises(ConfigError, match=r"c\.csv: column 'seen' has numbers, and dates in the tables that the model"):
        FederatedData.from_csv([a], target="y", test=c)
    wrong = write("d.csv", "seen,y\n2024-01-01,p\n2024-02-30,q\n")
    with pytest.raises(ConfigError, match=r"d\.csv, line 2, column 'seen'"):
        read_csv(wrong).numbers("seen")
