import pytest

from paper.limits import Exceeded, Limits


def test_weight_is_counted_by_address_and_minute() -> None:
    limits = Limits(50)
    assert [limits.weigh("a", 20, now=60.0), limits.weigh("a", 30, now=119.9)] == [20, 50]
    assert limits.weigh("b", 40, now=119.9) == 40
    with pytest.raises(Exceeded) as refused:
        limits.weigh("a", 1, now=100.0)
    assert (refused.value.code, refused.value.retry_after_seconds) == (-1003, 20)
    assert limits.weigh("a", 1, now=120.0) == 1


def test_orders_are_counted_by_account_in_ten_seconds_and_a_minute() -> None:
    limits = Limits(2400)
    for _ in range(300):
        limits.count_order("one", now=61.0)
    with pytest.raises(Exceeded) as refused:
        limits.count_order("one", now=62.0)
    assert (refused.value.code, refused.value.retry_after_seconds) == (-1015, 8)
    assert limits.count_order("other", now=62.0) == (1, 1)
    assert limits.count_order("one", now=70.0) == (1, 302)


def test_without_a_limit_everything_is_counted_and_nothing_refused() -> None:
    limits = Limits(0)
    assert limits.weigh("a", 10_000, now=1.0) == 10_000
    assert [limits.count_order("one", now=1.0) for _ in range(301)][-1] == (301, 301)


def test_funding_rates_have_a_pool_of_five_minutes() -> None:
    limits = Limits(2400)
    for _ in range(500):
        limits.count_funding("a", now=301.0)
    with pytest.raises(Exceeded) as refused:
        limits.count_funding("a", now=310.0)
    assert (refused.value.code, refused.value.status, refused.value.retry_after_seconds) == (-1003, 429, 290)
    limits.count_funding("b", now=310.0)
    limits.count_funding("a", now=600.0)
