"""From a release and the recipe's `deploy` section to the files of a deployment, its price, its proofs and its rollout"""
