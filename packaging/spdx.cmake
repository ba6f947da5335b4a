# penstock.spdx: an SPDX 2.3 document (tag-value) of the program and what is linked into it. Included by
# packaging/CMakeLists.txt; versions are those that the build found, and a test compares the list with what the
# program's dynamic section names.

set(spdx_packages)
set(spdx_relations)
# linked(NAME VERSION LICENSE HOW HOMEPAGE): HOW is STATIC or DYNAMIC.
function(linked name version license how homepage)
  string(APPEND spdx_packages "
PackageName: ${name}
SPDXID: SPDXRef-${name}
PackageVersion: ${version}
PackageDownloadLocation: NOASSERTION
FilesAnalyzed: false
PackageHomePage: ${homepage}
PackageLicenseConcluded: NOASSERTION
PackageLicenseDeclared: ${license}
PackageCopyrightText: NOASSERTION
")
  string(APPEND spdx_relations "Relationship: SPDXRef-penstock ${how}_LINK SPDXRef-${name}\n")
  set(spdx_packages "${spdx_packages}" PARENT_SCOPE)
  set(spdx_relations "${spdx_relations}" PARENT_SCOPE)
endfunction()

# defined(OUT TARGET HEADER EXPRESSION…): the values of these macros, with dots between them.
function(defined out target header)
  set(values)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  get_target_property(system_folders ${target} INTERFACE_SYSTEM_INCLUDE_DIRECTORIES)
  find_file(file_${target} ${header} PATHS ${folders} ${system_folders} NO_CACHE)
  file(STRINGS ${file_${target}} lines REGEX "#[ \t]*define")
  foreach(macro ${ARGN})
    foreach(line ${lines})
      if(line MATCHES "define[ \t]+${macro}[ \t]+\"?([0-9.]+)")
        list(APPEND values ${CMAKE_MATCH_1})
      endif()
    endforeach()
  endforeach()
  list(JOIN values "." text)
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

set(how DYNAMIC)
if(PENSTOCK_STATIC)
  set(how STATIC)
endif()
defined(mbedtls_version dep_mbedtls mbedtls/version.h MBEDTLS_VERSION_STRING)
if(NOT mbedtls_version) # 3.x keeps it elsewhere
  defined(mbedtls_version dep_mbedtls mbedtls/build_info.h MBEDTLS_VERSION_STRING)
endif()
if(LLHTTP_FOUND)
  set(llhttp_version ${LLHTTP_VERSION})
  set(llhttp_how ${how})
else()
  defined(llhttp_version dep_llhttp llhttp.h LLHTTP_VERSION_MAJOR LLHTTP_VERSION_MINOR LLHTTP_VERSION_PATCH)
  set(llhttp_how STATIC)
endif()
set(mbedtls_license "Apache-2.0")
if(mbedtls_version VERSION_GREATER_EQUAL 2.28)
  set(mbedtls_license "Apache-2.0 OR GPL-2.0-or-later")
endif()
if(msgpack-c_VERSION)
  set(msgpack_VERSION ${msgpack-c_VERSION})
endif()
execute_process(COMMAND getconf GNU_LIBC_VERSION OUTPUT_VARIABLE glibc_version ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
string(REPLACE "glibc " "" glibc_version "${glibc_version}")

linked(glibc "${glibc_version}" LGPL-2.1-or-later DYNAMIC https://www.gnu.org/software/libc/)
linked(libuv "${UV_VERSION}" MIT ${how} https://libuv.org/)
linked(llhttp "${llhttp_version}" MIT ${llhttp_how} https://llhttp.org/)
linked(mbedtls "${mbedtls_version}" "${mbedtls_license}" ${how} https://www.trustedfirmware.org/projects/mbed-tls/)
linked(msgpack-c "${msgpack_VERSION}" BSL-1.0 ${how} https://msgpack.org/)
linked(libyaml "${YAML_VERSION}" MIT ${how} https://pyyaml.org/wiki/LibYAML)
linked(libdeflate "${DEFLATE_VERSION}" MIT ${how} https://github.com/ebiggers/libdeflate)
linked(zstd "${ZSTD_VERSION}" "BSD-3-Clause OR GPL-2.0-only" ${how} https://facebook.github.io/zstd/)
if(ISAL_FOUND)
  linked(isa-l "${ISAL_VERSION}" BSD-3-Clause ${how} https://github.com/intel/isa-l)
endif()
if(SECCOMP_FOUND)
  # Always dynamic: its license lets users put in another one.
  linked(libseccomp "${SECCOMP_VERSION}" LGPL-2.1-only DYNAMIC https://github.com/seccomp/libseccomp)
endif()

string(TIMESTAMP spdx_created "%Y-%m-%dT%H:%M:%SZ" UTC) # SOURCE_DATE_EPOCH decides where it is set
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/share/doc/penstock/penstock.spdx @ONLY CONTENT
"SPDXVersion: SPDX-2.3
DataLicense: CC0-1.0
SPDXID: SPDXRef-DOCUMENT
DocumentName: penstock-@PROJECT_VERSION@
DocumentNamespace: https://spdx.org/spdxdocs/penstock-@PROJECT_VERSION@-@CMAKE_SYSTEM_PROCESSOR@
Creator: Tool: cmake-@CMAKE_VERSION@
Created: @spdx_created@

PackageName: penstock
SPDXID: SPDXRef-penstock
PackageVersion: @PROJECT_VERSION@
PackageDownloadLocation: NOASSERTION
FilesAnalyzed: false
PackageLicenseConcluded: Apache-2.0
PackageLicenseDeclared: Apache-2.0
PackageCopyrightText: NOASSERTION
@spdx_packages@
Relationship: SPDXRef-DOCUMENT DESCRIBES SPDXRef-penstock
@spdx_relations@")
