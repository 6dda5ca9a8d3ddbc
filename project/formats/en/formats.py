"""Times as the desk writes them everywhere: to the second, in UTC, no a.m. or p.m."""

DATETIME_FORMAT = "Y-m-d H:i:s"
DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
