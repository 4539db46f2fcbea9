"""Events of a function that are neither HTTP nor plain direct requests: recognized, answered record by record, or refused"""
