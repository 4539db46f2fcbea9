"""Endpoints as resources of CloudFormation. Pure."""

from __future__ import annotations

from typing import Any

from mlpack.core.digest import of_json
from mlpack.deploy.graph.endpoints import FunctionUrl, HttpApi, Jwt, LoadBalancer, RestApi, SecurityGroup, TargetGroup
from mlpack.deploy.graph.functions import Alias, Permission
from mlpack.deploy.graph.values import Ref
from mlpack.deploy.render import documents
from mlpack.deploy.render.cfn.compute import Resources
from mlpack.deploy.render.cfn.language import Formation, resource


def http_api(node: HttpApi, to: Formation) -> Resources:
    """The API, one integration, its routes, a stage with throttles and access logs, an authorizer for tokens."""
    api, tags = {"Ref": node.id}, dict(sorted(to.graph.tags.items()))
    own = {"Name": node.name, "ProtocolType": "HTTP", "CorsConfiguration": _cors(node.cors), "Tags": tags}
    integration = {
        "ApiId": api,
        "IntegrationType": "AWS_PROXY",
        "IntegrationUri": to.value(Ref(node.alias)),
        "PayloadFormatVersion": "2.0",
        "TimeoutInMillis": node.timeout_ms,
    }
    stage = {
        "ApiId": api,
        "StageName": "$default",
        "AutoDeploy": True,
        "AccessLogSettings": {"DestinationArn": to.value(Ref(node.logs)), "Format": documents.access_log("httpMethod")},
        "DefaultRouteSettings": {
            "ThrottlingRateLimit": node.throttle.rate,
            "ThrottlingBurstLimit": node.throttle.burst,
            "DetailedMetricsEnabled": True,
        },
        "Tags": tags,
    }
    result = {
        node.id: resource("ApiGatewayV2::Api", own),
        f"{node.id}Integration": resource("ApiGatewayV2::Integration", integration),
        f"{node.id}Stage": resource("ApiGatewayV2::Stage", stage),
    }
    rights: dict[str, Any] = {"AuthorizationType": documents.authorization(node)}
    if isinstance(node.auth, Jwt):
        rights["AuthorizerId"] = {"Ref": f"{node.id}Authorizer"}
        result[f"{node.id}Authorizer"] = resource(
            "ApiGatewayV2::Authorizer",
            {
                "ApiId": api,
                "Name": "tokens",
                "AuthorizerType": "JWT",
                "IdentitySource": ["$request.header.Authorization"],
                "JwtConfiguration": {"Issuer": node.auth.issuer, "Audience": list(node.auth.audience)},
            },
        )
    for number, route in enumerate(node.routes, 1):
        key = "$default" if route.path == "$default" else f"{route.method} {route.path}"
        target = {"Fn::Sub": f"integrations/${{{node.id}Integration}}"}
        own_rights = {"AuthorizationType": "NONE"} if route.method == "OPTIONS" else rights
        result[f"{node.id}Route{number}"] = resource(
            "ApiGatewayV2::Route",
            {"ApiId": api, "RouteKey": key, "Target": target, **own_rights},
        )
    return result


def _cors(cors: Any) -> dict[str, Any] | None:
    if not cors:
        return None
    names = {"origins": "AllowOrigins", "methods": "AllowMethods", "headers": "AllowHeaders", "max_age_s": "MaxAge"}
    return {names[key]: list(value) if isinstance(value, tuple | list) else value for key, value in cors.items()}


def rest_api(node: RestApi, to: Formation) -> Resources:
    """The API from its OpenAPI document; a deployment whose id changes with it; a stage; keys and plans of tenants."""
    api, stage = {"Ref": node.id}, f"{node.id}Stage"
    body = to.resolve(documents.openapi(node))
    deployment = f"{node.id}Deployment{of_json(body).hex[:8]}"
    settings = {
        "HttpMethod": "*",
        "ResourcePath": "/*",
        "ThrottlingRateLimit": node.throttle.rate,
        "ThrottlingBurstLimit": node.throttle.burst,
        "MetricsEnabled": True,
    }
    staged = {
        "RestApiId": api,
        "DeploymentId": {"Ref": deployment},
        "StageName": "live",
        "MethodSettings": [settings],
        "AccessLogSetting": {
            "DestinationArn": to.value(Ref(node.logs)),
            "Format": documents.access_log("httpMethod"),
        },
        "TracingEnabled": True,
        "Tags": to.tags,
    }
    own = {"Name": node.name, "Body": body, "EndpointConfiguration": {"Types": ["REGIONAL"]}, "Tags": to.tags}
    result = {
        node.id: resource("ApiGateway::RestApi", own | {"BinaryMediaTypes": documents.BINARY}),
        deployment: resource("ApiGateway::Deployment", {"RestApiId": api}),
        stage: resource("ApiGateway::Stage", staged),
    }
    for tenant in node.tenants:
        name = f"{node.id}{documents.identifier(tenant.name)}"
        plan = {
            "UsagePlanName": f"{node.name}-{tenant.name}",
            "ApiStages": [{"ApiId": api, "Stage": {"Ref": stage}}],
            "Throttle": {"RateLimit": tenant.throttle.rate, "BurstLimit": tenant.throttle.burst},
            "Tags": to.tags,
        }
        key = {"Name": f"{node.name}-{tenant.name}", "Enabled": True, "Tags": to.tags}
        both = {"KeyId": {"Ref": f"{name}Key"}, "KeyType": "API_KEY", "UsagePlanId": {"Ref": f"{name}Plan"}}
        result[f"{name}Key"] = resource("ApiGateway::ApiKey", key)
        result[f"{name}Plan"] = resource("ApiGateway::UsagePlan", plan)
        result[f"{name}PlanKey"] = resource("ApiGateway::UsagePlanKey", both)
    return result


def function_url(node: FunctionUrl, to: Formation) -> Resources:
    """The address of an alias."""
    owner = to.graph[node.alias]
    assert isinstance(owner, Alias)
    properties = {
        "TargetFunctionArn": to.value(Ref(owner.function)),
        "Qualifier": owner.name,
        "AuthType": "AWS_IAM" if node.auth == "iam" else "NONE",
        "InvokeMode": "RESPONSE_STREAM" if node.streaming else "BUFFERED",
        "Cors": _cors(node.cors),
    }
    return {node.id: resource("Lambda::Url", properties, DependsOn=[node.alias])}


def load_balancer(node: LoadBalancer, to: Formation) -> Resources:
    """The balancer, TLS to its targets by weight, and plain HTTP sent to TLS."""
    attributes = {
        "idle_timeout.timeout_seconds": str(node.idle_timeout_s),
        "routing.http.drop_invalid_header_fields.enabled": "true",
    }
    listed: list[dict[str, Any]] = [{"Key": key, "Value": value} for key, value in attributes.items()]
    if node.access_logs is not None:
        listed += [{"Key": "access_logs.s3.enabled", "Value": "true"}]
        listed += [{"Key": "access_logs.s3.bucket", "Value": to.value(node.access_logs)}]
    own = {
        "Name": node.name,
        "Type": "application",
        "Scheme": "internal" if node.internal else "internet-facing",
        "Subnets": to.value(node.subnets),
        "SecurityGroups": None if node.security_group is None else [to.value(Ref(node.security_group, "id"))],
        "LoadBalancerAttributes": listed,
        "Tags": to.tags,
    }
    shares = [{"TargetGroupArn": to.value(Ref(node.target)), "Weight": 100}]
    if node.other is not None:
        shares.append({"TargetGroupArn": to.value(Ref(node.other)), "Weight": 0})
    listener = {
        "LoadBalancerArn": {"Ref": node.id},
        "Port": 443,
        "Protocol": "HTTPS",
        "SslPolicy": documents.TLS_POLICY,
        "Certificates": [{"CertificateArn": to.value(node.certificate)}],
        "DefaultActions": [{"Type": "forward", "ForwardConfig": {"TargetGroups": shares}}],
    }
    away = {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}
    plain = {"LoadBalancerArn": {"Ref": node.id}, "Port": 80, "Protocol": "HTTP"}
    plain["DefaultActions"] = [{"Type": "redirect", "RedirectConfig": away}]
    return {
        node.id: resource("ElasticLoadBalancingV2::LoadBalancer", own),
        f"{node.id}Listener": resource("ElasticLoadBalancingV2::Listener", listener),
        f"{node.id}Plain": resource("ElasticLoadBalancingV2::Listener", plain),
    }


def target_group(node: TargetGroup, to: Formation) -> Resources:
    """Where requests go: an alias, once the balancer may invoke it, or the addresses of tasks."""
    health: dict[str, Any] = {"HealthCheckPath": node.health_path}
    if node.alias is not None:
        rights = [each.id for each in to.graph.of(Permission) if each.alias == node.alias and "elasticload" in each.service]
        properties: dict[str, Any] = {"TargetType": "lambda", "Targets": [{"Id": to.value(Ref(node.alias))}], "Tags": to.tags}
        return {node.id: resource("ElasticLoadBalancingV2::TargetGroup", properties, DependsOn=rights)}
    properties = {
        "TargetType": "ip",
        "Port": node.port,
        "Protocol": "HTTP",
        "VpcId": None if node.vpc is None else to.value(node.vpc),
        **health,
        "TargetGroupAttributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": str(node.drain_s)}],
        "Tags": to.tags,
    }
    return {node.id: resource("ElasticLoadBalancingV2::TargetGroup", properties)}


def security_group(node: SecurityGroup, to: Formation) -> Resources:
    """Who reaches which port, and everything outward."""
    inward = []
    for port, who in node.ingress:
        source = {"CidrIp": who} if isinstance(who, str) else {"SourceSecurityGroupId": to.value(who)}
        inward.append({"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "Description": f"port {port}", **source})
    properties = {
        "GroupDescription": node.description,
        "VpcId": to.value(node.vpc),
        "SecurityGroupIngress": inward,
        "SecurityGroupEgress": [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0", "Description": "everything outward"}],
        "Tags": to.tags,
    }
    return {node.id: resource("EC2::SecurityGroup", properties)}
