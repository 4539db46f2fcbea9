"""What watches a deployment: metrics, alarms, the dashboard and budgets, from the runtime's own table of metrics"""
