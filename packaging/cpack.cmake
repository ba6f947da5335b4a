# How CPack makes a .deb, an .rpm and a tarball: cpack -G DEB|RPM|TGZ in the build directory. The tarball is for any
# Linux of this architecture when the build had -DPENSTOCK_STATIC=ON.
set(CPACK_PACKAGE_NAME penstock)
set(CPACK_PACKAGE_VENDOR Penstock)
set(CPACK_PACKAGE_CONTACT "${PENSTOCK_CONTACT}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "durable event forwarder")
set(CPACK_PACKAGE_DESCRIPTION
    "Penstock takes events of the applications on a machine over HTTP, Unix sockets
or UDP, writes them to a log on disk, answers, and from then on gets them
upstream: batched, compressed, over TLS, retried with backpressure, with an
identity that survives crashes. It speaks the protocols of Honeycomb,
Langfuse, LaunchDarkly, Monk and SegOps in both directions, besides OTLP/HTTP,
CloudEvents and plain HTTP.")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_GENERATOR DEB)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
                                                WORLD_READ WORLD_EXECUTE)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "adduser")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "ca-certificates")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
foreach(part postinst prerm postrm conffiles)
  list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_SOURCE_DIR}/deb/${part})
endforeach()

set(CPACK_RPM_FILE_NAME RPM-DEFAULT)
set(CPACK_RPM_PACKAGE_LICENSE "Apache-2.0")
set(CPACK_RPM_PACKAGE_GROUP "System Environment/Daemons")
set(CPACK_RPM_PACKAGE_REQUIRES_PRE "shadow-utils")
set(CPACK_RPM_PACKAGE_RELOCATABLE OFF)
set(CPACK_RPM_USER_FILELIST "%config(noreplace) /etc/penstock/penstock.yaml"
                            "%dir %attr(0750,root,penstock) /etc/penstock")
set(CPACK_RPM_PRE_INSTALL_SCRIPT_FILE ${CMAKE_CURRENT_SOURCE_DIR}/rpm/pre)
set(CPACK_RPM_POST_INSTALL_SCRIPT_FILE ${CMAKE_CURRENT_SOURCE_DIR}/rpm/post)
set(CPACK_RPM_PRE_UNINSTALL_SCRIPT_FILE ${CMAKE_CURRENT_SOURCE_DIR}/rpm/preun)
set(CPACK_RPM_POST_UNINSTALL_SCRIPT_FILE ${CMAKE_CURRENT_SOURCE_DIR}/rpm/postun)
foreach(folder /etc /usr/lib/systemd /usr/lib/systemd/system /usr/share/bash-completion /usr/share/bash-completion/completions
               /usr/share/man /usr/share/man/man1 /usr/share/man/man5 /usr/share/doc /usr/share/zsh
               /usr/share/zsh/vendor-completions /usr/share/fish /usr/share/fish/vendor_completions.d)
  list(APPEND CPACK_RPM_EXCLUDE_FROM_AUTO_FILELIST_ADDITION ${folder})
endforeach()

set(CPACK_ARCHIVE_FILE_NAME penstock-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR})
include(CPack)
