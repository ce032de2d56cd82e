/*
 * server/base/version.h - versions that clients see.
 */
#ifndef SANDPIT_BASE_VERSION_H
#define SANDPIT_BASE_VERSION_H

/* The envd contract served; SDKs compare it with their feature gates (envd-api section 8). */
#ifndef ENVD_VERSION /* a test builds one that differs */
#define ENVD_VERSION "0.6.13"
#endif

#endif
