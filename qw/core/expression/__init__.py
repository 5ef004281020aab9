"""Expressions, ``${{ ... }}``: checked when a workflow is read, evaluated when a step starts."""

from qw.core.expression.expression import Condition, Expression, ExpressionError, Scope, Template, has_expression

__all__ = ["Condition", "Expression", "ExpressionError", "Scope", "Template", "has_expression"]
