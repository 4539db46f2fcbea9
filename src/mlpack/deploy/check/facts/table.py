"""Where a fact stands in a CloudFormation template and in a Terraform configuration. A table.

A kind: CloudFormation's type and Terraform's. Below it facts: their paths there, `-` where a language has none, so that no
differential test sees them; a long second path has a line of its own. A path of Terraform may lie in another resource:
`type:Suffix/path` is that of the resource of this type whose id is this one's and the suffix. `@` at the end: of a reference, only
who is meant. `!`: the text of a JSON document.
"""

from __future__ import annotations

from collections.abc import Mapping

_TEXT = """
role = IAM::Role aws_iam_role
    trust = AssumeRolePolicyDocument assume_role_policy!
rights = IAM::Policy aws_iam_role_policy
    policy = PolicyDocument policy!
    role = Roles@ role@
logs = Logs::LogGroup aws_cloudwatch_log_group
    name = LogGroupName name
    retention = RetentionInDays retention_in_days
    key = KmsKeyId kms_key_id
function = Lambda::Function aws_lambda_function
    name = FunctionName function_name
    role = Role role
    package = PackageType package_type
    bucket = Code.S3Bucket s3_bucket
    object = Code.S3Key s3_key
    image = Code.ImageUri image_uri
    runtime = Runtime runtime
    handler = Handler handler
    layers = Layers layers
    architecture = Architectures architectures
    memory = MemorySize memory_size
    timeout = Timeout timeout
    disk = EphemeralStorage.Size ephemeral_storage.size
    environment = Environment.Variables environment.variables
    key = KmsKeyArn kms_key_arn
    reserved = ReservedConcurrentExecutions reserved_concurrent_executions
    snapstart = SnapStart.ApplyOn snap_start.apply_on
    tracing = TracingConfig.Mode tracing_config.mode
    dead = DeadLetterConfig.TargetArn dead_letter_config.target_arn
    logs = LoggingConfig.LogGroup logging_config.log_group
version = Lambda::Version -
    function = FunctionName@ -
    provisioned = ProvisionedConcurrencyConfig.ProvisionedConcurrentExecutions -
warmth = - aws_lambda_provisioned_concurrency_config
    function = - function_name@
    provisioned = - provisioned_concurrent_executions
alias = Lambda::Alias aws_lambda_alias
    name = Name name
    function = FunctionName@ function_name@
    version = FunctionVersion function_version
    weights = RoutingConfig.AdditionalVersionWeights routing_config.additional_version_weights
    provisioned = ProvisionedConcurrencyConfig.ProvisionedConcurrentExecutions -
    ignored = - lifecycle.ignore_changes
permission = Lambda::Permission aws_lambda_permission
    alias = FunctionName@ qualifier@
    action = Action action
    principal = Principal principal
    source = SourceArn source_arn
    account = SourceAccount source_account
    url = FunctionUrlAuthType function_url_auth_type
    by url = InvokedViaFunctionUrl invoked_via_function_url
machine = StepFunctions::StateMachine aws_sfn_state_machine
    name = StateMachineName name
    type = StateMachineType type
    role = RoleArn role_arn
    definition = DefinitionString! definition!
    level = LoggingConfiguration.Level logging_configuration.level
    tracing = TracingConfiguration.Enabled tracing_configuration.enabled
rule = Events::Rule aws_cloudwatch_event_rule
    name = Name name
    state = State state
    pattern = EventPattern event_pattern!
    expression = ScheduleExpression schedule_expression
    target = Targets.0.Arn aws_cloudwatch_event_target:Target/arn
    role = Targets.0.RoleArn aws_cloudwatch_event_target:Target/role_arn
    input = Targets.0.Input! aws_cloudwatch_event_target:Target/input!
schedule = Scheduler::Schedule aws_scheduler_schedule
    name = Name name
    expression = ScheduleExpression schedule_expression
    timezone = ScheduleExpressionTimezone schedule_expression_timezone
    target = Target.Arn target.arn
    role = Target.RoleArn target.role_arn
    input = Target.Input! target.input!
build = CodeBuild::Project aws_codebuild_project
    name = Name name
    role = ServiceRole service_role
    image = Environment.Image environment.image
    compute = Environment.ComputeType environment.compute_type
    commands = Source.BuildSpec! source.buildspec!
    timeout = TimeoutInMinutes build_timeout
queue = SQS::Queue aws_sqs_queue
    name = QueueName name
    fifo = FifoQueue fifo_queue
    visibility = VisibilityTimeout visibility_timeout_seconds
    retention = MessageRetentionPeriod message_retention_seconds
    redrive = RedrivePolicy redrive_policy!
    key = KmsMasterKeyId kms_master_key_id
    encrypted = SqsManagedSseEnabled sqs_managed_sse_enabled
queue policy = SQS::QueuePolicy aws_sqs_queue_policy
    policy = PolicyDocument policy!
    queue = Queues@ queue_url@
source = Lambda::EventSourceMapping aws_lambda_event_source_mapping
    queue = EventSourceArn event_source_arn
    alias = FunctionName@ function_name@
    batch = BatchSize batch_size
    window = MaximumBatchingWindowInSeconds maximum_batching_window_in_seconds
    at once = ScalingConfig.MaximumConcurrency scaling_config.maximum_concurrency
    failures = FunctionResponseTypes function_response_types
bucket = S3::Bucket aws_s3_bucket
    name = BucketName bucket
    encryption = BucketEncryption.ServerSideEncryptionConfiguration.0.ServerSideEncryptionByDefault.SSEAlgorithm
        aws_s3_bucket_server_side_encryption_configuration:Encryption/rule.apply_server_side_encryption_by_default.sse_algorithm
    private 0 = PublicAccessBlockConfiguration.BlockPublicAcls aws_s3_bucket_public_access_block:Access/block_public_acls
    private 1 = PublicAccessBlockConfiguration.BlockPublicPolicy aws_s3_bucket_public_access_block:Access/block_public_policy
    private 2 = PublicAccessBlockConfiguration.IgnorePublicAcls aws_s3_bucket_public_access_block:Access/ignore_public_acls
    private 3 = PublicAccessBlockConfiguration.RestrictPublicBuckets
        aws_s3_bucket_public_access_block:Access/restrict_public_buckets
    versions = VersioningConfiguration.Status aws_s3_bucket_versioning:Versions/versioning_configuration.status
    expiry = LifecycleConfiguration.Rules.1.ExpirationInDays
        aws_s3_bucket_lifecycle_configuration:Lifecycle/rule.1.expiration.days
    queue = NotificationConfiguration.QueueConfigurations.0.Queue aws_s3_bucket_notification:Events/queue.0.queue_arn
bucket policy = S3::BucketPolicy aws_s3_bucket_policy
    policy = PolicyDocument policy!
    bucket = Bucket@ bucket@
table = DynamoDB::Table aws_dynamodb_table
    name = TableName name
    billing = BillingMode billing_mode
    hash = KeySchema.0.AttributeName hash_key
    range = KeySchema.1.AttributeName range_key
    ttl = TimeToLiveSpecification.AttributeName ttl.attribute_name
    recovery = PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled point_in_time_recovery.enabled
    key = SSESpecification.KMSMasterKeyId server_side_encryption.kms_key_arn
topic = SNS::Topic aws_sns_topic
    name = TopicName name
    key = KmsMasterKeyId kms_master_key_id
topic policy = SNS::TopicPolicy aws_sns_topic_policy
    policy = PolicyDocument policy!
    topic = Topics@ arn@
cluster = ECS::Cluster aws_ecs_cluster
    name = ClusterName name
    insights = ClusterSettings setting
cluster providers = ECS::ClusterCapacityProviderAssociations aws_ecs_cluster_capacity_providers
    cluster = Cluster@ cluster_name@
    providers = CapacityProviders capacity_providers
capacity = ECS::CapacityProvider aws_ecs_capacity_provider
    name = Name name
    draining = AutoScalingGroupProvider.ManagedDraining auto_scaling_group_provider.managed_draining
    scaling = AutoScalingGroupProvider.ManagedScaling.Status auto_scaling_group_provider.managed_scaling.status
    protection = AutoScalingGroupProvider.ManagedTerminationProtection auto_scaling_group_provider.managed_termination_protection
profile = IAM::InstanceProfile aws_iam_instance_profile
    role = Roles@ role@
launch = EC2::LaunchTemplate aws_launch_template
    image = LaunchTemplateData.ImageId image_id
    tokens = LaunchTemplateData.MetadataOptions.HttpTokens metadata_options.http_tokens
    encrypted = LaunchTemplateData.BlockDeviceMappings.0.Ebs.Encrypted block_device_mappings.0.ebs.encrypted
group = AutoScaling::AutoScalingGroup aws_autoscaling_group
    least = MinSize min_size
    most = MaxSize max_size
    on demand = MixedInstancesPolicy.InstancesDistribution.OnDemandPercentageAboveBaseCapacity
        mixed_instances_policy.instances_distribution.on_demand_percentage_above_base_capacity
    kinds = MixedInstancesPolicy.LaunchTemplate.Overrides mixed_instances_policy.launch_template.override
    kept = NewInstancesProtectedFromScaleIn protect_from_scale_in
task = ECS::TaskDefinition aws_ecs_task_definition
    family = Family family
    cpu = Cpu cpu
    memory = Memory memory
    on = RequiresCompatibilities requires_compatibilities
    architecture = RuntimePlatform.CpuArchitecture runtime_platform.cpu_architecture
    role = TaskRoleArn task_role_arn
    execution role = ExecutionRoleArn execution_role_arn
    containers = ContainerDefinitions container_definitions!
service = ECS::Service aws_ecs_service
    name = ServiceName name
    cluster = Cluster@ cluster@
    task = TaskDefinition task_definition
    count = DesiredCount desired_count
    launch type = LaunchType launch_type
    strategy = CapacityProviderStrategy capacity_provider_strategy
    subnets = NetworkConfiguration.AwsvpcConfiguration.Subnets network_configuration.subnets
    groups = NetworkConfiguration.AwsvpcConfiguration.SecurityGroups network_configuration.security_groups
    balancer = LoadBalancers.0.TargetGroupArn load_balancer.target_group_arn
    port = LoadBalancers.0.ContainerPort load_balancer.container_port
    breaker = DeploymentConfiguration.DeploymentCircuitBreaker.Enable deployment_circuit_breaker.enable
scaling = ApplicationAutoScaling::ScalableTarget aws_appautoscaling_target
    of = ServiceNamespace service_namespace
    resource = ResourceId resource_id
    least = MinCapacity min_capacity
    most = MaxCapacity max_capacity
scaling policy = ApplicationAutoScaling::ScalingPolicy aws_appautoscaling_policy
    name = PolicyName name
    type = PolicyType policy_type
    target = ScalingTargetId@ resource_id@
    value = TargetTrackingScalingPolicyConfiguration.TargetValue target_tracking_scaling_policy_configuration.target_value
    in = TargetTrackingScalingPolicyConfiguration.ScaleInCooldown target_tracking_scaling_policy_configuration.scale_in_cooldown
    out = TargetTrackingScalingPolicyConfiguration.ScaleOutCooldown
        target_tracking_scaling_policy_configuration.scale_out_cooldown
    metrics = TargetTrackingScalingPolicyConfiguration.CustomizedMetricSpecification.Metrics
        target_tracking_scaling_policy_configuration.customized_metric_specification.metrics
alarm = CloudWatch::Alarm aws_cloudwatch_metric_alarm
    name = AlarmName alarm_name
    comparison = ComparisonOperator comparison_operator
    threshold = Threshold threshold
    periods = EvaluationPeriods evaluation_periods
    points = DatapointsToAlarm datapoints_to_alarm
    missing = TreatMissingData treat_missing_data
    low samples = EvaluateLowSampleCountPercentile evaluate_low_sample_count_percentiles
    actions = AlarmActions@ alarm_actions@
    metrics = Metrics metric_query
    namespace = Namespace namespace
    metric = MetricName metric_name
    dimensions = Dimensions dimensions
    statistic = Statistic statistic
    extended = ExtendedStatistic extended_statistic
    period = Period period
composite = CloudWatch::CompositeAlarm aws_cloudwatch_composite_alarm
    name = AlarmName alarm_name
    rule = AlarmRule alarm_rule
    actions = AlarmActions alarm_actions
dashboard = CloudWatch::Dashboard aws_cloudwatch_dashboard
    name = DashboardName dashboard_name
    body = DashboardBody! dashboard_body!
budget = Budgets::Budget aws_budgets_budget
    name = Budget.BudgetName name
    amount = Budget.BudgetLimit.Amount limit_amount
    tag = Budget.CostFilters.TagKeyValue cost_filter.values
monitor = CE::AnomalyMonitor aws_ce_anomaly_monitor
    name = MonitorName name
    scope = MonitorSpecification! monitor_specification!
subscription = CE::AnomalySubscription aws_ce_anomaly_subscription
    name = SubscriptionName name
    monitor = MonitorArnList@ monitor_arn_list@
api = ApiGatewayV2::Api aws_apigatewayv2_api
    name = Name name
    origins = CorsConfiguration.AllowOrigins cors_configuration.allow_origins
integration = ApiGatewayV2::Integration aws_apigatewayv2_integration
    api = ApiId@ api_id@
    alias = IntegrationUri integration_uri
    timeout = TimeoutInMillis timeout_milliseconds
route = ApiGatewayV2::Route aws_apigatewayv2_route
    api = ApiId@ api_id@
    key = RouteKey route_key
    auth = AuthorizationType authorization_type
    authorizer = AuthorizerId@ authorizer_id@
authorizer = ApiGatewayV2::Authorizer aws_apigatewayv2_authorizer
    issuer = JwtConfiguration.Issuer jwt_configuration.issuer
    audience = JwtConfiguration.Audience jwt_configuration.audience
stage = ApiGatewayV2::Stage aws_apigatewayv2_stage
    api = ApiId@ api_id@
    logs = AccessLogSettings.DestinationArn access_log_settings.destination_arn
    rate = DefaultRouteSettings.ThrottlingRateLimit default_route_settings.throttling_rate_limit
    burst = DefaultRouteSettings.ThrottlingBurstLimit default_route_settings.throttling_burst_limit
rest = ApiGateway::RestApi aws_api_gateway_rest_api
    name = Name name
    body = Body body!
rest stage = ApiGateway::Stage aws_api_gateway_stage
    api = RestApiId@ rest_api_id@
    name = StageName stage_name
    logs = AccessLogSetting.DestinationArn access_log_settings.destination_arn
    tracing = TracingEnabled xray_tracing_enabled
    rate = MethodSettings.0.ThrottlingRateLimit -
    burst = MethodSettings.0.ThrottlingBurstLimit -
plan = ApiGateway::UsagePlan aws_api_gateway_usage_plan
    name = UsagePlanName name
    rate = Throttle.RateLimit throttle_settings.rate_limit
    burst = Throttle.BurstLimit throttle_settings.burst_limit
key = ApiGateway::ApiKey aws_api_gateway_api_key
    name = Name name
    enabled = Enabled enabled
plan key = ApiGateway::UsagePlanKey aws_api_gateway_usage_plan_key
    key = KeyId@ key_id@
    plan = UsagePlanId@ usage_plan_id@
url = Lambda::Url aws_lambda_function_url
    function = TargetFunctionArn@ function_name@
    qualifier = Qualifier -
    auth = AuthType authorization_type
    mode = InvokeMode invoke_mode
balancer = ElasticLoadBalancingV2::LoadBalancer aws_lb
    name = Name name
    subnets = Subnets subnets
    groups = SecurityGroups security_groups
listener = ElasticLoadBalancingV2::Listener aws_lb_listener
    balancer = LoadBalancerArn@ load_balancer_arn@
    port = Port port
    protocol = Protocol protocol
    policy = SslPolicy ssl_policy
    certificate = Certificates.0.CertificateArn certificate_arn
    action = DefaultActions.0.Type default_action.type
    first = DefaultActions.0.ForwardConfig.TargetGroups.0.TargetGroupArn default_action.forward.target_group.0.arn
    first weight = DefaultActions.0.ForwardConfig.TargetGroups.0.Weight default_action.forward.target_group.0.weight
    second = DefaultActions.0.ForwardConfig.TargetGroups.1.TargetGroupArn default_action.forward.target_group.1.arn
target group = ElasticLoadBalancingV2::TargetGroup aws_lb_target_group
    type = TargetType target_type
    port = Port port
    health = HealthCheckPath health_check.path
    alias = Targets.0.Id aws_lb_target_group_attachment:Target/target_id
security group = EC2::SecurityGroup aws_security_group
    vpc = VpcId vpc_id
    ingress = SecurityGroupIngress ingress
"""
Row = Mapping[str, tuple[str | None, str | None]]


def _table(text: str) -> dict[str, tuple[str | None, str | None, dict[str, tuple[str | None, str | None]]]]:
    result: dict[str, tuple[str | None, str | None, dict[str, tuple[str | None, str | None]]]] = {}
    kind = ""
    for line in text.strip().replace("\n        ", " ").splitlines():
        name, _, places = line.strip().partition(" = ")
        cfn, tf = (None if place == "-" else place for place in places.split())
        if line.startswith(" "):
            result[kind][2][name] = (cfn, tf)
        else:
            kind = name
            result[kind] = (cfn, tf, {})
    return result


TABLE: Mapping[str, tuple[str | None, str | None, Row]] = _table(_TEXT)
"""By kind: CloudFormation's type, Terraform's, and facts by name."""


def of_one_language(kind: str) -> frozenset[str]:
    """Facts of a kind that only one of the languages has."""
    return frozenset(name for name, (cfn, tf) in TABLE[kind][2].items() if cfn is None or tf is None)
