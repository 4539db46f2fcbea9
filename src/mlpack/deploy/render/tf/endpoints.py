"""Endpoints as resources of Terraform. Pure."""

from __future__ import annotations

from typing import Any

from mlpack.deploy.graph.endpoints import FunctionUrl, HttpApi, Jwt, LoadBalancer, RestApi, SecurityGroup, TargetGroup
from mlpack.deploy.graph.functions import Alias, Permission
from mlpack.deploy.graph.values import Ref
from mlpack.deploy.render import documents
from mlpack.deploy.render.tf.language import Resources, Terraform, resource


def http_api(node: HttpApi, to: Terraform) -> Resources:
    """The API, one integration, its routes, a stage with throttles and access logs, an authorizer for tokens."""
    api = f"${{aws_apigatewayv2_api.{node.id}.id}}"
    integration = {
        "api_id": api,
        "integration_type": "AWS_PROXY",
        "integration_uri": to.value(Ref(node.alias)),
        "payload_format_version": "2.0",
        "timeout_milliseconds": node.timeout_ms,
    }
    stage = {
        "api_id": api,
        "name": "$default",
        "auto_deploy": True,
        "access_log_settings": {
            "destination_arn": to.value(Ref(node.logs)),
            "format": to.literal(documents.access_log("httpMethod")),
        },
        "default_route_settings": {
            "throttling_rate_limit": node.throttle.rate,
            "throttling_burst_limit": node.throttle.burst,
            "detailed_metrics_enabled": True,
        },
    }
    own = {"name": to.literal(node.name), "protocol_type": "HTTP", "cors_configuration": _cors(node.cors)}
    result: Resources = {
        ("aws_apigatewayv2_api", node.id): resource(own),
        ("aws_apigatewayv2_integration", f"{node.id}Integration"): resource(integration),
        ("aws_apigatewayv2_stage", f"{node.id}Stage"): resource(stage),
    }
    rights: dict[str, Any] = {"authorization_type": documents.authorization(node)}
    if isinstance(node.auth, Jwt):
        rights["authorizer_id"] = f"${{aws_apigatewayv2_authorizer.{node.id}Authorizer.id}}"
        result["aws_apigatewayv2_authorizer", f"{node.id}Authorizer"] = resource(
            {
                "api_id": api,
                "name": "tokens",
                "authorizer_type": "JWT",
                "identity_sources": ["$request.header.Authorization"],
                "jwt_configuration": {"issuer": node.auth.issuer, "audience": list(node.auth.audience)},
            }
        )
    for number, route in enumerate(node.routes, 1):
        key = "$default" if route.path == "$default" else f"{route.method} {route.path}"
        target = f"integrations/${{aws_apigatewayv2_integration.{node.id}Integration.id}}"
        own_rights = {"authorization_type": "NONE"} if route.method == "OPTIONS" else rights
        arguments = {"api_id": api, "route_key": to.literal(key), "target": target, **own_rights}
        result["aws_apigatewayv2_route", f"{node.id}Route{number}"] = resource(arguments)
    return result


def _cors(cors: Any) -> dict[str, Any] | None:
    if not cors:
        return None
    names = {"origins": "allow_origins", "methods": "allow_methods", "headers": "allow_headers", "max_age_s": "max_age"}
    return {names[key]: list(value) if isinstance(value, tuple | list) else value for key, value in cors.items()}


def rest_api(node: RestApi, to: Terraform) -> Resources:
    """The API from its OpenAPI document; a deployment that is made anew with it; a stage; keys and plans of tenants."""
    api, deployment = f"${{aws_api_gateway_rest_api.{node.id}.id}}", f"${{aws_api_gateway_deployment.{node.id}Deployment.id}}"
    stage = f"${{aws_api_gateway_stage.{node.id}Stage.stage_name}}"
    own = {
        "name": to.literal(node.name),
        "body": to.text(documents.openapi(node)),
        "endpoint_configuration": {"types": ["REGIONAL"]},
        "binary_media_types": documents.BINARY,
    }
    redeployed = {
        "rest_api_id": api,
        "triggers": {"body": f"${{sha1(aws_api_gateway_rest_api.{node.id}.body)}}"},
        "lifecycle": {"create_before_destroy": True},
    }
    staged = {
        "rest_api_id": api,
        "deployment_id": deployment,
        "stage_name": "live",
        "access_log_settings": {
            "destination_arn": to.value(Ref(node.logs)),
            "format": to.literal(documents.access_log("httpMethod")),
        },
        "xray_tracing_enabled": True,
    }
    settings = {
        "rest_api_id": api,
        "stage_name": stage,
        "method_path": "*/*",
        "settings": {
            "throttling_rate_limit": node.throttle.rate,
            "throttling_burst_limit": node.throttle.burst,
            "metrics_enabled": True,
        },
    }
    result: Resources = {
        ("aws_api_gateway_rest_api", node.id): resource(own),
        ("aws_api_gateway_deployment", f"{node.id}Deployment"): resource(redeployed),
        ("aws_api_gateway_stage", f"{node.id}Stage"): resource(staged),
        ("aws_api_gateway_method_settings", f"{node.id}Settings"): resource(settings),
    }
    for tenant in node.tenants:
        name = f"{node.id}{documents.identifier(tenant.name)}"
        plan = {
            "name": f"{node.name}-{tenant.name}",
            "api_stages": [{"api_id": api, "stage": stage}],
            "throttle_settings": {"rate_limit": tenant.throttle.rate, "burst_limit": tenant.throttle.burst},
        }
        both = {
            "key_id": f"${{aws_api_gateway_api_key.{name}Key.id}}",
            "key_type": "API_KEY",
            "usage_plan_id": f"${{aws_api_gateway_usage_plan.{name}Plan.id}}",
        }
        key = {"name": f"{node.name}-{tenant.name}", "enabled": True}
        result["aws_api_gateway_api_key", f"{name}Key"] = resource(key)
        result["aws_api_gateway_usage_plan", f"{name}Plan"] = resource(plan)
        result["aws_api_gateway_usage_plan_key", f"{name}PlanKey"] = resource(both)
    return result


def function_url(node: FunctionUrl, to: Terraform) -> Resources:
    """The address of an alias."""
    owner = to.graph[node.alias]
    assert isinstance(owner, Alias)
    arguments = {
        "function_name": to.value(Ref(owner.function, "name")),
        "qualifier": f"${{aws_lambda_alias.{owner.id}.name}}",
        "authorization_type": "AWS_IAM" if node.auth == "iam" else "NONE",
        "invoke_mode": "RESPONSE_STREAM" if node.streaming else "BUFFERED",
        "cors": _cors(node.cors),
    }
    return {("aws_lambda_function_url", node.id): resource(arguments)}


def load_balancer(node: LoadBalancer, to: Terraform) -> Resources:
    """The balancer, TLS to its targets by weight, and plain HTTP sent to TLS."""
    balancer = f"${{aws_lb.{node.id}.arn}}"
    own = {
        "name": to.literal(node.name),
        "load_balancer_type": "application",
        "internal": node.internal,
        "subnets": to.value(node.subnets),
        "security_groups": None if node.security_group is None else [to.value(Ref(node.security_group, "id"))],
        "idle_timeout": node.idle_timeout_s,
        "drop_invalid_header_fields": True,
        "access_logs": None if node.access_logs is None else {"enabled": True, "bucket": to.value(node.access_logs)},
    }
    shares = [{"arn": to.value(Ref(node.target)), "weight": 100}]
    if node.other is not None:
        shares.append({"arn": to.value(Ref(node.other)), "weight": 0})
    listener = {
        "load_balancer_arn": balancer,
        "port": 443,
        "protocol": "HTTPS",
        "ssl_policy": documents.TLS_POLICY,
        "certificate_arn": to.value(node.certificate),
        "default_action": {"type": "forward", "forward": {"target_group": shares}},
        "lifecycle": {"ignore_changes": ["default_action"]} if node.other is not None else None,
    }
    away = {"protocol": "HTTPS", "port": "443", "status_code": "HTTP_301"}
    plain = {
        "load_balancer_arn": balancer,
        "port": 80,
        "protocol": "HTTP",
        "default_action": {"type": "redirect", "redirect": away},
    }
    return {
        ("aws_lb", node.id): resource(own),
        ("aws_lb_listener", f"{node.id}Listener"): resource(listener),
        ("aws_lb_listener", f"{node.id}Plain"): resource(plain),
    }


def target_group(node: TargetGroup, to: Terraform) -> Resources:
    """Where requests go: an alias, once the balancer may invoke it, or the addresses of tasks."""
    if node.alias is None:
        arguments = {
            "target_type": "ip",
            "port": node.port,
            "protocol": "HTTP",
            "vpc_id": None if node.vpc is None else to.value(node.vpc),
            "health_check": {"path": node.health_path},
            "deregistration_delay": node.drain_s,
        }
        return {("aws_lb_target_group", node.id): resource(arguments)}
    rights = [
        f"aws_lambda_permission.{each.id}"
        for each in to.graph.of(Permission)
        if each.alias == node.alias and "elasticload" in each.service
    ]
    attached = {"target_group_arn": f"${{aws_lb_target_group.{node.id}.arn}}", "target_id": to.value(Ref(node.alias))}
    return {
        ("aws_lb_target_group", node.id): resource({"target_type": "lambda"}),
        ("aws_lb_target_group_attachment", f"{node.id}Target"): resource(attached, depends_on=rights),
    }


def security_group(node: SecurityGroup, to: Terraform) -> Resources:
    """Who reaches which port, and everything outward."""
    inward = []
    for port, who in node.ingress:
        source = {"cidr_blocks": [who]} if isinstance(who, str) else {"security_groups": [to.value(who)]}
        inward.append(_BLANK | {"protocol": "tcp", "from_port": port, "to_port": port, "description": f"port {port}"} | source)
    outward = {"protocol": "-1", "from_port": 0, "to_port": 0, "cidr_blocks": ["0.0.0.0/0"], "description": "everything outward"}
    arguments = {
        "description": node.description,
        "vpc_id": to.value(node.vpc),
        "ingress": inward,
        "egress": [_BLANK | outward],
    }
    return {("aws_security_group", node.id): resource(arguments)}


_BLANK: dict[str, Any] = {"cidr_blocks": [], "ipv6_cidr_blocks": [], "prefix_list_ids": [], "security_groups": [], "self": False}
"""Terraform's JSON wants every argument of such a block."""
