"""What a deployment costs: fixed dollars a month and dollars for a thousand requests, by component, each price with its source"""
