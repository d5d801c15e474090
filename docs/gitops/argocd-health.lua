-- Argo CD: health of JuiceVolume and JuiceCachePolicy. In argocd-cm under
-- resource.customizations.health.juicepod.io_JuiceVolume and resource.customizations.health.juicepod.io_JuiceCachePolicy.
local health = { status = "Progressing", message = "waiting for the operator" }
if obj.metadata.deletionTimestamp ~= nil then
  health.message = "being deleted"
end
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local ready = conditions["Ready"]
if obj.metadata.deletionTimestamp ~= nil then
  if ready ~= nil and ready.status ~= "True" then
    health.message = ready.message
  end
  return health
end
if obj.spec ~= nil and obj.spec.suspend == true then
  return { status = "Suspended", message = "spec.suspend is set" }
end
if status.observedGeneration ~= obj.metadata.generation then
  return health
end
if conditions["Stalled"] ~= nil and conditions["Stalled"].status == "True" then
  return { status = "Degraded", message = conditions["Stalled"].message }
end
if conditions["Reconciling"] ~= nil and conditions["Reconciling"].status == "True" then
  health.message = conditions["Reconciling"].message
  return health
end
if ready == nil then
  return health
end
if ready.status == "True" then
  return { status = "Healthy", message = ready.message }
end
return { status = "Degraded", message = ready.message }
