#include "mapper/pod.h"

#include <stdlib.h>
#include <string.h>

#include "mapper/labels.h"
#include "server/base/mem.h"
#include "server/base/str.h"
#include "server/base/time.h"

#define POD_UID 1000

/* OBJECT[KEY] as an object, made when it is missing or something else. Borrowed. */
static json_t *child(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    if (!json_is_object(value)) {
        json_put(object, key, json_object());
        value = json_object_get(object, key);
    }
    return value;
}

static json_t *array_child(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    if (!json_is_array(value)) {
        json_put(object, key, json_array());
        value = json_object_get(object, key);
    }
    return value;
}

static void put_label(json_t *labels, const char *key, const char *text)
{
    char value[LABEL_VALUE_SIZE];

    label_encode(text, value);
    json_put_str(labels, key, value);
}

static void put_time(json_t *annotations, const char *key, int64_t unix_ms)
{
    char text[TIME_RFC3339_SIZE];

    time_rfc3339_ms(unix_ms, text);
    json_put_str(annotations, key, text);
}

static json_t *options_json(const struct sandbox *sandbox)
{
    json_t *options = json_object();

    json_put_bool(options, "secure", sandbox->secure);
    json_put_bool(options, "autoPause", sandbox->auto_pause);
    json_put_bool(options, "autoResume", sandbox->auto_resume);
    json_put_bool(options, "internet", sandbox->internet);
    json_put_bool(options, "internetSet", sandbox->internet_set);
    json_put_bool(options, "privateTraffic", sandbox->private_traffic);
    json_put_i64(options, "cpuCount", sandbox->cpu_count);
    json_put_i64(options, "memoryMB", sandbox->memory_mb);
    json_put_i64(options, "diskSizeMB", sandbox->disk_mb);
    json_put_i64(options, "createdUnixMs", sandbox->created_unix_ms);
    json_put_str(options, "namespace", sandbox->namespace_);
    json_put_str(options, "client", sandbox->client);
    json_put_str(options, "alias", sandbox->alias);
    return options;
}

static void put_metadata(json_t *metadata, const struct sandbox *sandbox,
                         const struct pod_options *options)
{
    json_t *labels = child(metadata, "labels"), *annotations = child(metadata, "annotations");
    _cleanup_json_ json_t *opts = options_json(sandbox);
    _cleanup_free_ char *text = json_text(opts);

    json_put_str(metadata, "name", sandbox->id);
    json_put_str(metadata, "namespace", options->kube_namespace);
    json_object_del(metadata, "generateName");
    json_put_str(labels, MANAGED_BY_LABEL, MANAGED_BY);
    json_put_str(labels, LABEL_SANDBOX_ID, sandbox->id);
    put_label(labels, LABEL_NAMESPACE, sandbox->namespace_);
    put_label(labels, LABEL_CLIENT, sandbox->client);
    put_label(labels, LABEL_TEMPLATE, sandbox->template_id);
    json_put_str(labels, LABEL_STATE, sandbox_state_name(sandbox->state));
    json_put_str(annotations, ANNOTATION_TEMPLATE, sandbox->template_id);
    json_put_str(annotations, ANNOTATION_OPTIONS, text);
    if (sandbox->metadata != NULL)
        json_put_str(annotations, ANNOTATION_METADATA, sandbox->metadata);
    put_time(annotations, ANNOTATION_STARTED, sandbox->started_unix_ms);
    put_time(annotations, ANNOTATION_END, sandbox->end_unix_ms);
}

/* Container-level settings of "restricted"; over what the template says. */
static void secure_container(json_t *container)
{
    json_t *context = child(container, "securityContext");

    json_put_bool(context, "allowPrivilegeEscalation", false);
    json_put_bool(context, "privileged", false);
    json_put_bool(context, "runAsNonRoot", true);
    json_put(context, "capabilities", json_pack("{s:[s]}", "drop", "ALL"));
    json_put(context, "seccompProfile", json_pack("{s:s}", "type", "RuntimeDefault"));
    json_object_del(context, "procMount");
}

static void secure_spec(json_t *spec, const struct pod_options *options)
{
    static const char *const host_keys[] = {"hostNetwork", "hostPID",  "hostIPC",
                                            "hostAliases", "nodeName", "hostUsers"};
    json_t *context = child(spec, "securityContext");

    for (size_t i = 0; i < array_size(host_keys); i++)
        json_object_del(spec, host_keys[i]);
    json_put_bool(spec, "automountServiceAccountToken", false);
    json_put_bool(spec, "enableServiceLinks", false);
    json_put_str(spec, "restartPolicy", "Never");
    json_put_bool(context, "runAsNonRoot", true);
    json_put_i64(context, "runAsUser", POD_UID);
    json_put_i64(context, "runAsGroup", POD_UID);
    json_put_i64(context, "fsGroup", POD_UID);
    json_put(context, "seccompProfile", json_pack("{s:s}", "type", "RuntimeDefault"));
    if (options->runtime_class != NULL)
        json_put_str(spec, "runtimeClassName", options->runtime_class);
}

static void put_resources(json_t *container, const struct sandbox *sandbox)
{
    json_t *limits = child(child(container, "resources"), "limits");
    _cleanup_free_ char *cpu = mem_asprintf("%u", sandbox->cpu_count);
    _cleanup_free_ char *memory = mem_asprintf("%uMi", sandbox->memory_mb);
    _cleanup_free_ char *disk = mem_asprintf("%uMi", sandbox->disk_mb);

    json_put_str(limits, "cpu", cpu);
    json_put_str(limits, "memory", memory);
    json_put_str(limits, "ephemeral-storage", disk);
}

static void inject_envd(json_t *spec, json_t *main, const struct pod_options *options)
{
    json_t *mount = json_pack("{s:s,s:s}", "name", POD_ENVD_VOLUME, "mountPath", POD_ENVD_FOLDER);
    json_t *init =
        json_pack("{s:s,s:s,s:[s,s],s:[O],s:{s:{s:s,s:s}}}", "name", POD_ENVD_INIT_CONTAINER,
                  "image", options->envd_image, "command", "/envd", "--copy-to=" POD_ENVD_FOLDER,
                  "volumeMounts", mount, "resources", "limits", "cpu", "100m", "memory", "32Mi");

    secure_container(init);
    json_array_insert_new(array_child(spec, "initContainers"), 0, init);
    json_array_append_new(array_child(spec, "volumes"),
                          json_pack("{s:s,s:{}}", "name", POD_ENVD_VOLUME, "emptyDir"));
    json_array_append_new(array_child(main, "volumeMounts"), mount);
    json_put(
        main, "command",
        json_pack("[s,s,s,s]", POD_ENVD_FOLDER "/envd", "--init", "--listen", "0.0.0.0:49983"));
    json_object_del(main, "args");
    json_array_append_new(array_child(main, "ports"),
                          json_pack("{s:s,s:i}", "name", "envd", "containerPort", POD_ENVD_PORT));
    json_put(main, "readinessProbe",
             json_pack("{s:{s:s,s:i},s:i}", "httpGet", "path", "/health", "port", POD_ENVD_PORT,
                       "periodSeconds", 1));
}

/* The template's pod spec and first container, or an error that names what is missing. */
static int template_parts(json_t *pod, json_t **spec, json_t **main, struct err *err)
{
    json_t *containers;
    const char *image = NULL;

    *spec = json_object_get(pod, "spec");
    containers = json_object_get(*spec, "containers");
    *main = json_array_get(containers, 0);
    if (!json_is_object(*spec) || !json_is_object(*main))
        return err_set(err, ERR_INVALID, "the PodTemplate has no template.spec.containers[0]");
    if (json_get_str(*main, "image", &image, err) < 0)
        return -1;
    if (image == NULL || image[0] == '\0')
        return err_set(err, ERR_INVALID, "the PodTemplate's first container has no image");
    return 0;
}

int pod_from_sandbox(const struct sandbox *sandbox, const json_t *pod_template,
                     const struct pod_options *options, json_t **out, struct err *err)
{
    json_t *inner = json_object_get(pod_template, "template");
    _cleanup_json_ json_t *pod = json_deep_copy(inner);
    json_t *spec, *main, *container;
    size_t i;

    if (!json_is_object(pod))
        return err_set(err, ERR_INVALID, "the PodTemplate has no template");
    if (template_parts(pod, &spec, &main, err) < 0)
        return -1;
    json_put_str(pod, "apiVersion", "v1");
    json_put_str(pod, "kind", "Pod");
    json_object_del(pod, "status");
    put_metadata(child(pod, "metadata"), sandbox, options);
    secure_spec(spec, options);
    json_array_foreach(json_object_get(spec, "containers"), i, container)
        secure_container(container);
    json_array_foreach(json_object_get(spec, "initContainers"), i, container)
        secure_container(container);
    json_put_str(main, "name", POD_MAIN_CONTAINER);
    put_resources(main, sandbox);
    inject_envd(spec, main, options);
    *out = steal_ptr(&pod);
    return 0;
}

static int read_options(const json_t *annotations, struct sandbox *out, struct err *err)
{
    const char *text = NULL, *namespace_ = NULL, *client = "", *alias = "";
    int64_t cpu = 0, memory = 0, disk = 0;

    if (json_get_str(annotations, ANNOTATION_OPTIONS, &text, err) < 0)
        return -1;
    if (text == NULL)
        return err_set(err, ERR_INVALID, "annotation '%s' is missing", ANNOTATION_OPTIONS);
    _cleanup_json_ json_t *options = json_parse_object(text, strlen(text), err);
    if (options == NULL || json_get_bool(options, "secure", &out->secure, err) < 0 ||
        json_get_bool(options, "autoPause", &out->auto_pause, err) < 0 ||
        json_get_bool(options, "autoResume", &out->auto_resume, err) < 0 ||
        json_get_bool(options, "internet", &out->internet, err) < 0 ||
        json_get_bool(options, "internetSet", &out->internet_set, err) < 0 ||
        json_get_bool(options, "privateTraffic", &out->private_traffic, err) < 0 ||
        json_get_i64(options, "cpuCount", 0, UINT32_MAX, &cpu, err) < 0 ||
        json_get_i64(options, "memoryMB", 0, UINT32_MAX, &memory, err) < 0 ||
        json_get_i64(options, "diskSizeMB", 0, UINT32_MAX, &disk, err) < 0 ||
        json_get_i64(options, "createdUnixMs", 0, INT64_MAX, &out->created_unix_ms, err) < 0 ||
        json_get_str(options, "namespace", &namespace_, err) < 0 ||
        json_get_str(options, "client", &client, err) < 0 ||
        json_get_str(options, "alias", &alias, err) < 0)
        return -1;
    if (namespace_ == NULL ||
        str_copy(out->namespace_, NAMESPACE_SIZE, namespace_, strlen(namespace_)) < 0 ||
        str_copy(out->client, CLIENT_SIZE, client, strlen(client)) < 0 ||
        str_copy(out->alias, TEMPLATE_ID_SIZE, alias, strlen(alias)) < 0)
        return err_set(err, ERR_INVALID, "annotation '%s' is damaged", ANNOTATION_OPTIONS);
    out->cpu_count = (uint32_t)cpu;
    out->memory_mb = (uint32_t)memory;
    out->disk_mb = (uint32_t)disk;
    return 0;
}

static int read_time(const json_t *annotations, const char *key, int64_t *out, struct err *err)
{
    const char *text = "";

    if (json_get_str(annotations, key, &text, err) < 0)
        return -1;
    if (time_parse_rfc3339(text, strlen(text), out, NULL) < 0)
        return err_set(err, ERR_INVALID, "annotation '%s' is no date", key);
    return 0;
}

static int read_names(const json_t *labels, const json_t *annotations, struct sandbox *out,
                      struct err *err)
{
    const char *id = "", *state = "", *template_id = "", *metadata = NULL;

    if (json_get_str(labels, LABEL_SANDBOX_ID, &id, err) < 0 ||
        json_get_str(labels, LABEL_STATE, &state, err) < 0 ||
        json_get_str(annotations, ANNOTATION_TEMPLATE, &template_id, err) < 0 ||
        json_get_str(annotations, ANNOTATION_METADATA, &metadata, err) < 0)
        return -1;
    if (sandbox_id_parse(id, strlen(id), out->id, err) < 0)
        return -1;
    if (sandbox_state_parse(state, &out->state) < 0 ||
        str_copy(out->template_id, TEMPLATE_ID_SIZE, template_id, strlen(template_id)) < 0)
        return err_set(err, ERR_INVALID, "pod of sandbox %s: damaged state or template", out->id);
    out->metadata = mem_strdup(metadata);
    return 0;
}

int pod_to_sandbox(const json_t *pod, struct sandbox *out, struct err *err)
{
    const json_t *metadata = json_object_get(pod, "metadata");
    const json_t *labels = json_object_get(metadata, "labels");
    const json_t *annotations = json_object_get(metadata, "annotations");
    _cleanup_sandbox_ struct sandbox sandbox = {0};

    if (!str_eq(json_string_value(json_object_get(labels, MANAGED_BY_LABEL)), MANAGED_BY))
        return err_set(err, ERR_INVALID, "the pod is not managed by " MANAGED_BY);
    if (read_names(labels, annotations, &sandbox, err) < 0 ||
        read_options(annotations, &sandbox, err) < 0 ||
        read_time(annotations, ANNOTATION_STARTED, &sandbox.started_unix_ms, err) < 0 ||
        read_time(annotations, ANNOTATION_END, &sandbox.end_unix_ms, err) < 0)
        return -1;
    *out = sandbox;
    memset(&sandbox, 0, sizeof(sandbox));
    return 0;
}

json_t *pod_template_default(const char *name, const char *image, uint32_t cpu_count,
                             uint32_t memory_mb)
{
    _cleanup_free_ char *cpu = mem_asprintf("%u", cpu_count);
    _cleanup_free_ char *memory = mem_asprintf("%uMi", memory_mb);

    return json_pack("{s:s,s:s,s:{s:s},s:{s:{s:[{s:s,s:s,s:{s:{s:s,s:s}}}]}}}", "apiVersion", "v1",
                     "kind", "PodTemplate", "metadata", "name", name, "template", "spec",
                     "containers", "name", POD_MAIN_CONTAINER, "image", image, "resources",
                     "limits", "cpu", cpu, "memory", memory);
}
