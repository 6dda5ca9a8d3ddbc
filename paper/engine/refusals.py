"""The answers of a definite failure, by the codes of the contract (section 5)."""


class Refusal(Exception):  # it is an answer, not an error of ours
    """The request was refused and changed nothing. `status` is the HTTP status."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.status = status


MESSAGES = {
    -1022: "Signature for this request is not valid.",
    -1023: "Start time is greater than end time.",
    -1102: "Mandatory parameter was not sent, was empty/null, or malformed.",
    -1106: "Parameter 'reduceonly' sent when not required.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1120: "Invalid interval.",
    -1121: "Invalid symbol.",
    -1125: "This listenKey does not exist.",
    -1128: "Combination of optional parameters invalid.",
    -1136: "Invalid newOrderRespType.",
    -2011: "Unknown order sent.",
    -2013: "Order does not exist.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action.",
    -2019: "Margin is insufficient.",
    -2021: "Order would immediately trigger.",
    -2022: "ReduceOnly Order is rejected.",
    -2025: "Reach max open order limit.",
    -2027: "Exceeded the maximum allowable position at current leverage.",
    -2028: "Leverage is smaller than permitted: insufficient margin balance.",
    -4002: "Price greater than max price.",
    -4003: "Quantity less than zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4013: "Price less than min price.",
    -4014: "Price not increased by tick size.",
    -4015: "Client order id is not valid.",
    -4021: "Not valid depth limit.",
    -4023: "Quantity not increased by step size.",
    -4045: "Reach max stop order limit.",
    -4046: "No need to change margin type.",
    -4047: "Margin type cannot be changed if there exists open orders.",
    -4048: "Margin type cannot be changed if there exists position.",
    -4051: "Isolated balance insufficient.",
    -4059: "No need to change position side.",
    -4060: "Invalid position side.",
    -4061: "Order's position side does not match user's setting.",
    -4067: "Position side cannot be changed if there exists open orders.",
    -4068: "Position side cannot be changed if there exists position.",
    -4116: "ClientOrderId is duplicated.",
    -4117: "Stop order is in triggering process. Please try again later.",
    -4118: "ReduceOnly Order Failed. Please check your existing position and open orders",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4130: "An open stop or take profit order with GTE and closePosition in the direction is existing.",
    -4131: "The counterparty's best price does not meet the PERCENT_PRICE filter limit",
    -4136: "Target strategy invalid for orderType.",
    -4137: "Quantity must be zero with closePosition equals true",
    -4138: "Reduce only must be true with closePosition equals true",
    -4140: "Invalid symbol status for opening position",
    -4141: "Symbol is closed",
    -4161: "Leverage reduction is not supported in Isolated Margin Mode with open positions",
    -4165: "Maximum time interval is 7 days.",
    -4166: "Search window is restricted to recent 90 days only.",
    -4171: "Multi-assets mode is already set.",
    -5021: "Due to the order could not be filled immediately, the FOK order has been rejected.",
    -5022: "Due to the order could not be executed as maker, the Post Only order will be rejected.",
    -5026: "Exceed maximum modify order limit.",
    -5027: "No need to modify the order.",
    -5040: (
        "The goodTillDate timestamp must be greater than the current time plus 600 seconds and smaller than "
        "253402300799000"
    ),
}


def refuse(code: int, message: str = "", status: int = 400) -> Refusal:
    """The refusal of that code, with the exchange's own text unless one is given."""
    return Refusal(code, message or MESSAGES[code], status)
