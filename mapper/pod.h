/*
 * mapper/pod.h - a sandbox as a Kubernetes pod, made from a PodTemplate.
 *
 * Pure: JSON in, JSON out. Any thread. Source: Kubernetes core/v1 Pod and PodTemplate; Pod Security
 * Standards, "restricted".
 */
#ifndef SANDPIT_MAPPER_POD_H
#define SANDPIT_MAPPER_POD_H

#include "server/base/json.h"
#include "server/model/sandbox.h"

#define POD_MAIN_CONTAINER "sandbox"
#define POD_ENVD_INIT_CONTAINER "envd"
#define POD_ENVD_VOLUME "sandpit-envd"
#define POD_ENVD_FOLDER "/opt/sandpit"
#define POD_ENVD_PORT 49983

struct pod_options {            /* borrowed */
    const char *kube_namespace; /* where the pod goes */
    const char *envd_image;     /* image that holds /envd, for the init container */
    const char *runtime_class;  /* "gvisor", "kata"; NULL: the cluster's default */
};

/*
 * The pod for SANDBOX from POD_TEMPLATE (a core/v1 PodTemplate object: its `template` is used).
 * The first container runs the sandbox; it is renamed to POD_MAIN_CONTAINER, and envd is its
 * command, the image's own command being replaced. Metadata goes to an annotation, environment
 * and secrets do not: envd gets them by POST /init. What makes a pod safe is set over whatever the
 * template says: no service-account token, non-root, no privilege escalation, all capabilities
 * dropped, RuntimeDefault seccomp, no host namespaces, never restarted.
 * *OUT is a new reference. ERR_INVALID naming what is wrong with the template.
 */
int pod_from_sandbox(const struct sandbox *sandbox, const json_t *pod_template,
                     const struct pod_options *options, json_t **out, struct err *err);

/*
 * What a pod's labels and annotations say of its sandbox. *OUT is owned (sandbox_clear).
 * ERR_INVALID when POD is not one of ours or its annotations are damaged.
 */
int pod_to_sandbox(const json_t *pod, struct sandbox *out, struct err *err);

/* The built-in PodTemplate for IMAGE with the limits of model/limits.h. New reference. */
json_t *pod_template_default(const char *name, const char *image, uint32_t cpu_count,
                             uint32_t memory_mb);

#endif
