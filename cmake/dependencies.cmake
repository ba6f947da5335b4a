# Every library comes from the distribution and is found here, under one name each (dep_*).
# Debian 12 package names are in packaging/dependencies.
find_package(PkgConfig REQUIRED)

# libseccomp: the system call filter. Optional; always dynamic, before the search is for static libraries only.
add_library(dep_seccomp INTERFACE)
if(PENSTOCK_WITH_SECCOMP)
  pkg_check_modules(SECCOMP IMPORTED_TARGET libseccomp>=2.5)
  if(SECCOMP_FOUND)
    target_link_libraries(dep_seccomp INTERFACE PkgConfig::SECCOMP)
    target_compile_definitions(dep_seccomp INTERFACE PENSTOCK_HAVE_SECCOMP=1)
  endif()
endif()

set(uv_module libuv)
if(PENSTOCK_STATIC)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
  set(uv_module libuv-static)
  add_link_options(-static-libgcc)
endif()
pkg_check_modules(UV REQUIRED IMPORTED_TARGET ${uv_module}>=1.44)
add_library(dep_uv ALIAS PkgConfig::UV)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1>=0.2.5)
add_library(dep_yaml ALIAS PkgConfig::YAML)
pkg_check_modules(DEFLATE REQUIRED IMPORTED_TARGET libdeflate>=1.10)
add_library(dep_deflate ALIAS PkgConfig::DEFLATE)
# zstd is needed wherever an input takes zstd bodies, which is everywhere.
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd>=1.4)
add_library(dep_zstd ALIAS PkgConfig::ZSTD)

# ISA-L: gzip at more than twice libdeflate's speed, on x86-64 and arm64. Optional; Debian has no static one.
add_library(dep_isal INTERFACE)
if(PENSTOCK_WITH_ISAL AND NOT PENSTOCK_STATIC)
  pkg_check_modules(ISAL IMPORTED_TARGET libisal>=2.30)
  if(ISAL_FOUND)
    target_link_libraries(dep_isal INTERFACE PkgConfig::ISAL)
    target_compile_definitions(dep_isal INTERFACE PENSTOCK_HAVE_ISAL=1)
  endif()
endif()

# msgpack-c: 6.x calls its target msgpack-c, 4.x msgpackc.
find_package(msgpack-c CONFIG QUIET)
add_library(dep_msgpack INTERFACE)
if(TARGET msgpack-c)
  target_link_libraries(dep_msgpack INTERFACE msgpack-c)
else()
  find_package(msgpack CONFIG REQUIRED)
  if(PENSTOCK_STATIC)
    target_link_libraries(dep_msgpack INTERFACE msgpackc-static)
  else()
    target_link_libraries(dep_msgpack INTERFACE msgpackc)
  endif()
endif()

# mbedTLS: 3.x ships a CMake package, Debian 12's 2.28 does not. The order matters for static linking.
find_package(MbedTLS CONFIG QUIET)
add_library(dep_mbedtls INTERFACE)
if(TARGET MbedTLS::mbedtls)
  target_link_libraries(dep_mbedtls INTERFACE MbedTLS::mbedtls MbedTLS::mbedx509 MbedTLS::mbedcrypto)
else()
  find_path(MBEDTLS_INC mbedtls/ssl.h REQUIRED)
  target_include_directories(dep_mbedtls SYSTEM INTERFACE ${MBEDTLS_INC})
  foreach(l mbedtls mbedx509 mbedcrypto)
    find_library(MBEDTLS_${l} ${l} REQUIRED)
    target_link_libraries(dep_mbedtls INTERFACE ${MBEDTLS_${l}})
  endforeach()
endif()

# llhttp: a library on Debian 13 and Fedora, C sources in a package on Debian 12. Strict mode is a
# compile-time switch of 8.x (9.x is always strict) and must be the same for the sources and all users.
pkg_check_modules(LLHTTP QUIET IMPORTED_TARGET libllhttp)
if(LLHTTP_FOUND)
  add_library(dep_llhttp ALIAS PkgConfig::LLHTTP)
else()
  find_path(LLHTTP_INC llhttp.h PATHS /usr/share/include PATH_SUFFIXES llhttp REQUIRED)
  find_path(LLHTTP_SRC llhttp.c PATHS /usr/share PATH_SUFFIXES llhttp REQUIRED)
  add_library(dep_llhttp STATIC ${LLHTTP_SRC}/api.c ${LLHTTP_SRC}/http.c ${LLHTTP_SRC}/llhttp.c)
  target_include_directories(dep_llhttp SYSTEM PUBLIC ${LLHTTP_INC})
  target_compile_definitions(dep_llhttp PUBLIC LLHTTP_STRICT_MODE=1)
  target_compile_options(dep_llhttp PRIVATE -w -O2) # not our warnings; slow at -O0
endif()
